// Writes a million numbered lines, or as many as its argument says, and exits with 3 at the first error,
// which it tells.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	lines := 1000000
	if len(os.Args) > 1 {
		lines, _ = strconv.Atoi(os.Args[1])
	}
	for number := range lines {
		if _, err := fmt.Printf("%07d\n", number); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
	}
}
