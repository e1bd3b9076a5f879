// Reads PromQL expressions, a JSON array of texts, and writes what each of them asks for, as Prometheus's own parser has it.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

// A selector: the name of a metric, what its labels must be, and the function that takes its range, if one does.
type selector struct {
	Name     string            `json:"name"`
	Matchers map[string]string `json:"matchers"`
	Function string            `json:"function"`
}

// An expression: its selectors, the labels that it groups or joins by, and what is wrong with it.
type expression struct {
	Selectors []selector `json:"selectors"`
	Labels    []string   `json:"labels"`
	Error     string     `json:"error"`
}

func main() {
	log.SetFlags(0)
	var texts []string
	if err := json.NewDecoder(os.Stdin).Decode(&texts); err != nil {
		log.Fatal(err)
	}
	expressions := make([]expression, len(texts))
	for number, text := range texts {
		expressions[number] = read(text)
	}
	if err := json.NewEncoder(os.Stdout).Encode(expressions); err != nil {
		log.Fatal(err)
	}
}

func read(text string) expression {
	found := expression{Selectors: []selector{}, Labels: []string{}}
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		found.Error = err.Error()
		return found
	}
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		switch one := node.(type) {
		case *parser.AggregateExpr:
			found.Labels = append(found.Labels, one.Grouping...)
		case *parser.BinaryExpr:
			if one.VectorMatching != nil {
				found.Labels = append(found.Labels, one.VectorMatching.MatchingLabels...)
				found.Labels = append(found.Labels, one.VectorMatching.Include...)
			}
		case *parser.VectorSelector:
			found.Selectors = append(found.Selectors, selector{one.Name, matchers(one), function(path)})
		}
		return nil
	})
	return found
}

func matchers(one *parser.VectorSelector) map[string]string {
	found := map[string]string{}
	for _, matcher := range one.LabelMatchers {
		if matcher.Name != "__name__" {
			found[matcher.Name] = matcher.Type.String() + matcher.Value
		}
	}
	return found
}

// function returns the name of the function whose argument is the range that ends the path.
func function(path []parser.Node) string {
	if len(path) < 2 {
		return ""
	}
	if _, ranged := path[len(path)-1].(*parser.MatrixSelector); !ranged {
		return ""
	}
	if call, called := path[len(path)-2].(*parser.Call); called {
		return call.Func.Name
	}
	return ""
}
