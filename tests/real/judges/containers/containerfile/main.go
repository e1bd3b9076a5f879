// Reads a Containerfile on standard input as BuildKit does for `docker build --check`, and prints what its linter says as
// JSON. No base image is fetched: each of them is taken to be an empty one.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/opencontainers/go-digest"
)

type empty struct{}

func (empty) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, "", []byte(`{"architecture": "amd64", "os": "linux", "config": {}}`), nil
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		source := llb.NewSourceMap(nil, "Containerfile", "Dockerfile", text)
		source.Definition = &llb.Definition{}
		options := dockerfile2llb.ConvertOpt{MetaResolver: empty{}, SourceMap: source}
		var found any
		found, err = dockerfile2llb.DockerfileLint(context.Background(), text, options)
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(found)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
