// Lists its directory /data and tells how many names there are, and a sum over them in any order.
package main

import (
	"fmt"
	"hash/fnv"
	"os"
)

func main() {
	entries, err := os.ReadDir("/data")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var sum uint32
	for _, entry := range entries {
		hash := fnv.New32a()
		hash.Write([]byte(entry.Name()))
		sum += hash.Sum32()
	}
	fmt.Printf("%d names, %08x\n", len(entries), sum)
}
