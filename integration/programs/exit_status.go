// Exits with the status that its argument names.
package main

import (
	"os"
	"strconv"
)

func main() {
	status, err := strconv.Atoi(os.Args[1])
	if err != nil {
		status = 99
	}
	os.Exit(status)
}
