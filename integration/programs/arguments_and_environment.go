// Prints its arguments and its environment, one a line, without the program's own name.
package main

import (
	"fmt"
	"os"
)

func main() {
	for _, argument := range os.Args[1:] {
		fmt.Println("argument", argument)
	}
	for _, variable := range os.Environ() {
		fmt.Println("environment", variable)
	}
}
