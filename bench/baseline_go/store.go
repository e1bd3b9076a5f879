package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// What is asked of an answer to `_bulk`: an eighth of the bytes.
const bulkFilter = "?filter_path=items.*.status,items.*._seq_no,items.*._primary_term,items.*.error"

type version struct {
	SeqNo       int64 `json:"_seq_no"`
	PrimaryTerm int64 `json:"_primary_term"`
}

// store has the two writes of an alert.
type store interface {
	create(doc *document) (version, error)
	replace(doc *document, over version) error
}

// memoryStore is for a run without a store.
type memoryStore struct {
	lock      sync.Mutex
	live      map[string]*document
	delivered []string
}

func (m *memoryStore) create(doc *document) (version, error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.live[doc.RecordID] = doc
	return version{}, nil
}

func (m *memoryStore) replace(doc *document, _ version) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	delete(m.live, doc.RecordID)
	if doc.Delivered {
		m.delivered = append(m.delivered, doc.RecordID)
	}
	return nil
}

type openSearch struct {
	url     string
	client  *http.Client
	writes  *committer[[]byte, version]
	lock    sync.Mutex
	batches map[int]int
}

func newOpenSearch(url, index string) *openSearch {
	o := &openSearch{url: url + "/" + index + "/_bulk" + bulkFilter, client: &http.Client{}, batches: map[int]int{}}
	o.writes = newCommitter(bulks, mostWrites, o.bulk)
	return o
}

func (o *openSearch) create(doc *document) (version, error) {
	lines, err := linesOf(doc, fmt.Sprintf(`{"create":{"_id":%q}}`, doc.RecordID))
	if err != nil {
		return version{}, err
	}
	return o.writes.submit(lines)
}

func (o *openSearch) replace(doc *document, over version) error {
	condition := `{"index":{"_id":%q,"if_seq_no":%d,"if_primary_term":%d}}`
	lines, err := linesOf(doc, fmt.Sprintf(condition, doc.RecordID, over.SeqNo, over.PrimaryTerm))
	if err != nil {
		return err
	}
	_, err = o.writes.submit(lines)
	return err
}

func linesOf(doc *document, action string) ([]byte, error) {
	var lines bytes.Buffer
	lines.WriteString(action)
	lines.WriteByte('\n')
	encoder := json.NewEncoder(&lines) // ends the line, too
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(doc)
	return lines.Bytes(), err
}

type bulkItem struct {
	version
	Status int             `json:"status"`
	Error  json.RawMessage `json:"error"`
}

func (o *openSearch) bulk(writes [][]byte) ([]version, error) {
	o.lock.Lock()
	o.batches[len(writes)]++
	o.lock.Unlock()
	response, err := o.client.Post(o.url, "application/x-ndjson", bytes.NewReader(bytes.Join(writes, nil)))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Items []map[string]bulkItem `json:"items"`
	}
	body, err := io.ReadAll(response.Body) // to its end, or the connection is lost
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if len(answer.Items) != len(writes) {
		return nil, fmt.Errorf("%s: %d items for %d writes", response.Status, len(answer.Items), len(writes))
	}
	versions := make([]version, len(writes))
	for place, slot := range answer.Items {
		for _, item := range slot {
			if item.Status/100 != 2 {
				return nil, fmt.Errorf("a write was refused: %d %s", item.Status, item.Error)
			}
			versions[place] = item.version
		}
	}
	return versions, nil
}
