// Copies /data/from to /data/to.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	from, err := os.Open("/data/from")
	if err == nil {
		var to *os.File
		to, err = os.Create("/data/to")
		if err == nil {
			_, err = io.Copy(to, from)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ok")
}
