// Decodes what a webhook was sent, a message a line on standard input, with Alertmanager's own types: a field that they
// do not have is an error. Prints each message as they encode it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/alertmanager/notify/webhook"
)

func main() {
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	encoder := json.NewEncoder(os.Stdout)
	for {
		var message webhook.Message
		err := decoder.Decode(&message)
		if err == io.EOF {
			return
		}
		if err == nil {
			err = encoder.Encode(message)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
