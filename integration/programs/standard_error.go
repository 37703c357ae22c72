// Writes to both standard streams and keeps them apart.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("to standard output")
	fmt.Fprintln(os.Stderr, "to standard error")
}
