// Waits for standard input and for timers at once, each in a goroutine of its own.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
)

func main() {
	lines := make(chan string)
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			lines <- input.Text()
		}
		close(lines)
	}()
	select {
	case <-lines:
		os.Exit(1)
	case <-time.After(200 * time.Millisecond):
		fmt.Println("nothing: 0 after its time")
	}
	for line := range lines {
		fmt.Println("read:", line)
	}
	fmt.Println("the end")
}
