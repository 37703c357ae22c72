// Says that it sleeps, sleeps for two seconds, and says so again until its input ends.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	fmt.Println("asleep")
	time.Sleep(2 * time.Second)
	fmt.Println("awake")
	io.Copy(io.Discard, os.Stdin)
}
