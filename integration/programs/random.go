// Prints 16 random bytes in hexadecimal: they differ between two runs.
package main

import (
	"crypto/rand"
	"fmt"
)

func main() {
	bytes := make([]byte, 16)
	rand.Read(bytes)
	fmt.Printf("%x\n", bytes)
}
