// Command fakedotnet stands in for the `dotnet` command where there is none: it lists runtimes, and runs an "assembly" by
// speaking the Runtime API, as Amazon.Lambda.RuntimeSupport does. It answers each event with what it was started with.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--list-runtimes" {
		root := filepath.Dir(os.Args[0])
		fmt.Printf("Microsoft.AspNetCore.App 9.0.1 [%s/shared/Microsoft.AspNetCore.App]\n", root)
		versions, _ := os.ReadDir(filepath.Join(root, "shared/Microsoft.NETCore.App"))
		for _, version := range versions {
			fmt.Printf("Microsoft.NETCore.App %s [%s/shared/Microsoft.NETCore.App]\n", version.Name(), root)
		}
		return
	}
	if len(os.Args) != 2 || !strings.HasSuffix(os.Args[1], ".dll") {
		fmt.Fprintln(os.Stderr, "the application to execute does not exist")
		os.Exit(145)
	}
	told, _ := json.Marshal(map[string]string{
		"assembly": filepath.Base(os.Args[1]), "root": os.Getenv("DOTNET_ROOT"), "heap": os.Getenv("DOTNET_GCHeapHardLimit"),
	})
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		next, err := http.Get(base + "next")
		if err != nil {
			os.Exit(1)
		}
		next.Body.Close()
		answer, err := http.Post(base+next.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "application/json", bytes.NewReader(told))
		if err != nil {
			os.Exit(1)
		}
		answer.Body.Close()
	}
}
