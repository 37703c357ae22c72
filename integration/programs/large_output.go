// Writes 100000 numbered lines, far more than a pipe or a host call holds.
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	output := bufio.NewWriter(os.Stdout)
	for line := range 100000 {
		fmt.Fprintln(output, "line", line)
	}
	if output.Flush() != nil {
		os.Exit(1)
	}
}
