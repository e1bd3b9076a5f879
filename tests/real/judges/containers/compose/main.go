// Loads a Compose file as `docker compose config` does, schema, references and all, and prints the project as JSON.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:])
	var text []byte
	if err == nil {
		project, fault := options.LoadProject(context.Background())
		if err = fault; err == nil {
			text, err = project.MarshalJSON()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Stdout.Write(text)
}
