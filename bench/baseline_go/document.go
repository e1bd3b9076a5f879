package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	leaseS      = 120
	stampLayout = "2006-01-02T15:04:05.000000Z"
)

var severities = []string{"info", "low", "medium", "high", "critical"}

var attempts atomic.Int64

// document is the record as the program writes it: the same fields, the same bytes but for their order.
type document struct {
	event
	SeverityRank  int      `json:"severity_rank"`
	RecordID      string   `json:"record_id"`
	EntryOrder    string   `json:"entry_order"`
	Stream        string   `json:"stream"`
	StreamID      string   `json:"stream_id"`
	ContentSHA256 string   `json:"content_sha256"`
	IngestedAt    string   `json:"ingested_at"`
	Delivered     bool     `json:"delivered"`
	Delivery      delivery `json:"delivery"`
}

// event is an AlertEvent; `details` and the factors of a risk are kept as text.
type event struct {
	AlertID       string            `json:"alert_id"`
	RuleID        string            `json:"rule_id"`
	View          string            `json:"view"`
	Scope         string            `json:"scope"`
	Severity      string            `json:"severity"`
	Title         string            `json:"title"`
	OccurredAt    time.Time         `json:"occurred_at"`
	SchemaVersion string            `json:"schema_version,omitempty"`
	Source        string            `json:"source,omitempty"`
	Type          string            `json:"type,omitempty"`
	RuleVersion   string            `json:"rule_version,omitempty"`
	Status        string            `json:"status,omitempty"`
	Fingerprint   string            `json:"fingerprint,omitempty"`
	GroupKey      string            `json:"group_key,omitempty"`
	Supersedes    string            `json:"supersedes,omitempty"`
	EmittedAt     *time.Time        `json:"emitted_at,omitempty"`
	ExpiresAt     *time.Time        `json:"expires_at,omitempty"`
	ChainID       *int64            `json:"chain_id,omitempty"`
	Network       string            `json:"network,omitempty"`
	BlockNumber   *int64            `json:"block_number,omitempty"`
	BlockHash     string            `json:"block_hash,omitempty"`
	Finality      string            `json:"finality,omitempty"`
	TxHash        string            `json:"tx_hash,omitempty"`
	LogIndex      *int64            `json:"log_index,omitempty"`
	Addresses     []string          `json:"addresses,omitempty"`
	Contract      string            `json:"contract,omitempty"`
	Protocol      string            `json:"protocol,omitempty"`
	ValueRaw      string            `json:"value_raw,omitempty"`
	ValueUSD      *float64          `json:"value_usd,omitempty"`
	Threshold     *float64          `json:"threshold,omitempty"`
	Confidence    *float64          `json:"confidence,omitempty"`
	Risk          *risk             `json:"risk,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	Details       text              `json:"details,omitempty"`
	Links         []string          `json:"links,omitempty"`
	TraceID       string            `json:"trace_id,omitempty"`
	Description   string            `json:"description,omitempty"`
}

type risk struct {
	Score   *float64 `json:"score,omitempty"`
	Method  string   `json:"method,omitempty"`
	Factors text     `json:"factors,omitempty"`
}

// text is JSON that is read as it is, and written as a string.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	*t = text(raw)
	return nil
}

type delivery struct {
	State       string           `json:"state"`
	Owner       string           `json:"owner"`
	LeaseUntil  string           `json:"lease_until,omitempty"`
	Attempts    int              `json:"attempts"`
	InDoubt     int              `json:"in_doubt"`
	FirstAt     string           `json:"first_at"`
	LastAt      string           `json:"last_at"`
	DeliveredAt string           `json:"delivered_at,omitempty"`
	LastStatus  int              `json:"last_status,omitempty"`
	Cuts        int              `json:"cuts"`
	Channels    []channelOutcome `json:"channels"`
}

type channelOutcome struct {
	Name       string    `json:"name"`
	State      string    `json:"state"`
	Attempts   int       `json:"attempts"`
	InDoubt    int       `json:"in_doubt"`
	LastStatus int       `json:"last_status,omitempty"`
	Log        []attempt `json:"log,omitempty"`
}

type attempt struct {
	At        string  `json:"at"`
	DurationS float64 `json:"duration_s"`
	Result    string  `json:"result"`
	Status    int     `json:"status"`
	Answer    string  `json:"answer,omitempty"`
}

// newDocument parses an alert, and returns its record before the send.
func newDocument(stream, consumer, id, payload string) (*document, error) {
	doc := &document{}
	decoder := json.NewDecoder(strings.NewReader(payload))
	decoder.DisallowUnknownFields() // nothing is left out of the record
	if err := decoder.Decode(&doc.event); err != nil {
		return nil, err
	}
	e := &doc.event
	for _, required := range []string{e.AlertID, e.RuleID, e.View, e.Scope, e.Title} {
		if required == "" {
			return nil, errors.New("a required field is missing")
		}
	}
	doc.SeverityRank = slices.Index(severities, e.Severity)
	if doc.SeverityRank < 0 || e.OccurredAt.IsZero() {
		return nil, errors.New("no severity, or no time")
	}
	order, err := entryOrder(id)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	sum := sha256.Sum256([]byte(payload))
	doc.RecordID, doc.StreamID, doc.Stream, doc.EntryOrder = id, id, stream, order
	doc.ContentSHA256 = hex.EncodeToString(sum[:])
	doc.IngestedAt = stamp(now)
	doc.Delivery = delivery{
		State:      "sending",
		Owner:      fmt.Sprintf("%s/%08x/%d", consumer, os.Getpid(), attempts.Add(1)),
		LeaseUntil: stamp(now.Add(leaseS * time.Second)),
		Attempts:   1,
		FirstAt:    stamp(now),
		LastAt:     stamp(now),
		Channels:   []channelOutcome{{Name: "webhook", State: "sending", Attempts: 1}},
	}
	return doc, nil
}

// settle writes down what the receiver answered.
func (d *document) settle(began time.Time, status int, answer string) {
	took := time.Since(began)
	state, result := "delivered", "accepted"
	if status/100 != 2 {
		state, result = "failed", "refused"
	}
	d.Delivered = state == "delivered"
	d.Delivery.State, d.Delivery.LeaseUntil, d.Delivery.LastStatus = state, "", status
	if d.Delivered {
		d.Delivery.DeliveredAt = stamp(began.Add(took))
	}
	log := attempt{stamp(began), took.Round(time.Millisecond).Seconds(), result, status, answer}
	d.Delivery.Channels = []channelOutcome{
		{Name: "webhook", State: state, Attempts: 1, LastStatus: status, Log: []attempt{log}},
	}
}

// entryOrder writes an entry's ID so that text sorts as the two numbers do.
func entryOrder(id string) (string, error) {
	milliseconds, sequence, _ := strings.Cut(id, "-")
	first, err := strconv.ParseUint(milliseconds, 10, 64)
	if err != nil {
		return "", err
	}
	second, err := strconv.ParseUint(sequence, 10, 64)
	return fmt.Sprintf("%020d-%020d", first, second), err
}

func stamp(at time.Time) string {
	return at.UTC().Format(stampLayout)
}
