// The wall clock is of this century, the monotonic clock moves on by what is slept, at least.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	before := time.Now()
	time.Sleep(20 * time.Millisecond)
	if time.Since(before) < 20*time.Millisecond {
		os.Exit(1)
	}
	fmt.Println(before.Unix())
}
