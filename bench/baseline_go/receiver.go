package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const sendTimeout = 15 * time.Second

type receiver struct {
	url    string
	key    []byte
	client *http.Client
}

func newReceiver(url, secret string, workers int) (*receiver, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{MaxIdleConns: workers, MaxIdleConnsPerHost: workers, DisableCompression: true}
	return &receiver{url, key, &http.Client{Transport: transport, Timeout: sendTimeout}}, nil
}

// send signs an alert by the Standard Webhooks specification, and returns what the receiver answered.
func (r *receiver) send(id, payload string) (int, string, error) {
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, r.key)
	io.WriteString(mac, id+"."+timestamp+"."+payload)
	request, err := http.NewRequest(http.MethodPost, r.url, strings.NewReader(payload))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("content-type", "application/json")
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", timestamp)
	request.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	response, err := r.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(io.LimitReader(response.Body, 1024))
	return response.StatusCode, body.String(), err
}
