// Reads manifests on standard input, prints them as a JSON list, and says on standard error what the Pod Security Standard
// "restricted" has against each Pod and Deployment.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func main() {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	must(err)
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	decoder := yaml.NewYAMLOrJSONDecoder(os.Stdin, 4096)
	found, bad := []json.RawMessage{}, false
	for {
		var text json.RawMessage
		if err := decoder.Decode(&text); errors.Is(err, io.EOF) {
			break
		} else {
			must(err)
		}
		if len(text) == 0 || string(text) == "null" {
			continue
		}
		found = append(found, text)
		name, pod := podOf(text)
		if pod == nil {
			continue
		}
		for _, result := range evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec) {
			if !result.Allowed {
				bad = true
				fmt.Fprintf(os.Stderr, "%s: %s: %s\n", name, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(found))
	if bad {
		os.Exit(1)
	}
}

func podOf(text []byte) (string, *corev1.PodTemplateSpec) {
	var kind metav1.TypeMeta
	must(json.Unmarshal(text, &kind))
	switch kind.Kind {
	case "Deployment":
		var deployment appsv1.Deployment
		must(json.Unmarshal(text, &deployment))
		return deployment.Name, &deployment.Spec.Template
	case "Pod":
		var pod corev1.Pod
		must(json.Unmarshal(text, &pod))
		return pod.Name, &corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
	}
	return "", nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
