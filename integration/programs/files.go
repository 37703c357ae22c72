// Makes, appends to, reads, lists, renames and removes files in its directory /data.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func must(condition bool, what string) {
	if !condition {
		check(errors.New(what))
	}
}

func main() {
	check(os.MkdirAll("/data/directory/inner", 0o755))
	check(os.WriteFile("/data/directory/first", []byte("one\n"), 0o644))
	file, err := os.OpenFile("/data/directory/first", os.O_APPEND|os.O_WRONLY, 0)
	check(err)
	_, err = file.WriteString("two\n")
	check(err)
	check(file.Close())
	text, err := os.ReadFile("/data/directory/first")
	check(err)
	must(string(text) == "one\ntwo\n", string(text))
	check(os.Rename("/data/directory/first", "/data/directory/inner/second"))
	_, err = os.Stat("/data/directory/first")
	must(errors.Is(err, fs.ErrNotExist), "still there")
	check(os.Truncate("/data/directory/inner/second", 3))
	var found []string
	check(fs.WalkDir(os.DirFS("/data/directory"), ".", func(path string, _ fs.DirEntry, err error) error {
		found = append(found, path)
		return err
	}))
	must(fmt.Sprint(found) == "[. inner inner/second]", fmt.Sprint(found))
	check(os.RemoveAll("/data/directory"))

	// What the host put there is readable, and what is left there stays for the host.
	text, err = os.ReadFile("/data/from-host")
	check(err)
	check(os.WriteFile("/data/from-guest", append([]byte("seen: "), text...), 0o644))
	// Above its directory there is nothing.
	_, err = os.ReadFile("/data/../etc/passwd")
	must(err != nil, "read above its directory")
	_, err = os.ReadFile("/etc/passwd")
	must(err != nil, "read outside its directory")
	fmt.Println("ok")
}
