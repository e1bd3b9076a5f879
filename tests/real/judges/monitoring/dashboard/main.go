// Reads a dashboard by the types of Grafana's own SDK: what is no field of theirs, or has another type, is an error.
package main

import (
	"io"
	"log"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	log.SetFlags(0)
	plugins.RegisterDefaultPlugins() // the options of each kind of panel, and the queries of each data source
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	read := dashboard.Dashboard{}
	// Where nothing is wrong, the SDK returns an empty list of errors, and Go's nil is another thing.
	if err := read.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		log.Fatal(err)
	}
	if err := read.Validate(); err != nil {
		log.Fatal(err)
	}
}
