// The measure in another language: what a good Go engineer would write, with group commit.
//
// A reader and N goroutines. Each alert goes the same four steps, and is signed, as the program's own: its record is
// created, it is sent, the outcome is written over the version that was created, and the entry is acknowledged. Writes
// and acknowledgements of many goroutines gather while the last request is under way, and go out together in the next;
// each goroutine waits for its own. It has the same index, mapping and record as the program. It does none of what a
// crash, a lost answer or a schema that is wrong would need.
//
// Configured by the same environment as the program: main --report FILE [--remember].
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	readCount  = 100 // entries a read, as the program's setting `batch`
	mostWrites = 500 // a `_bulk` request
	mostAcks   = 1000
	bulks      = 2 // `_bulk` requests under way
)

type report struct {
	Batches    map[int]int `json:"batches"`
	Remembered []string    `json:"remembered"`
}

type program struct {
	redis    *redis.Client
	store    store
	receiver *receiver
	stream   string
	group    string
	consumer string
	acks     *committer[string, struct{}]
}

func main() {
	path := flag.String("report", "", "where to write what was counted")
	remember := flag.Bool("remember", false, "without a store")
	flag.Parse()
	stopping, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	made, err := run(stopping, *remember)
	if err != nil {
		log.Fatal(err)
	}
	written, err := json.Marshal(made)
	if err == nil {
		err = os.WriteFile(*path, written, 0o600)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run works until it is told to stop, and ends what it has begun.
func run(stopping context.Context, remember bool) (*report, error) {
	workers, err := strconv.Atoi(setting("WORKERS"))
	if err != nil {
		return nil, err
	}
	options, err := redis.ParseURL(setting("REDIS_URL"))
	if err != nil {
		return nil, err
	}
	receiver, err := newReceiver(setting("WEBHOOK_URL"), setting("WEBHOOK_SECRET"), workers)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	p := &program{
		redis:    redis.NewClient(options),
		receiver: receiver,
		stream:   setting("STREAM"),
		group:    setting("GROUP"),
		consumer: fmt.Sprintf("%s-%d", host, os.Getpid()),
	}
	p.acks = newCommitter(1, mostAcks, p.acknowledge)
	made := &report{Batches: map[int]int{}}
	memory := &memoryStore{live: map[string]*document{}, delivered: []string{}}
	p.store = memory
	if !remember {
		p.store = newOpenSearch(setting("STORE_URL"), setting("INDEX"))
	}

	entries := make(chan redis.XMessage)
	var working sync.WaitGroup
	for range workers {
		working.Add(1)
		go func() {
			defer working.Done()
			for entry := range entries {
				if err := p.process(entry); err != nil {
					log.Fatalf("%s: %v", entry.ID, err)
				}
			}
		}()
	}
	err = p.read(stopping, entries)
	close(entries)
	working.Wait()
	if err != nil {
		return nil, err
	}
	made.Remembered = memory.delivered
	if search, ok := p.store.(*openSearch); ok {
		made.Batches = search.batches
	}
	return made, p.redis.Close()
}

func (p *program) read(stopping context.Context, entries chan<- redis.XMessage) error {
	for {
		read, err := p.redis.XReadGroup(stopping, &redis.XReadGroupArgs{
			Group: p.group, Consumer: p.consumer, Streams: []string{p.stream, ">"}, Count: readCount, Block: 2 * time.Second,
		}).Result()
		switch {
		case stopping.Err() != nil:
			return nil
		case errors.Is(err, redis.Nil):
			continue
		case err != nil:
			return err
		}
		for _, entry := range read[0].Messages {
			entries <- entry
		}
	}
}

// process does the four steps.
func (p *program) process(entry redis.XMessage) error {
	payload, ok := entry.Values["event"].(string)
	if !ok {
		return errors.New("no event")
	}
	doc, err := newDocument(p.stream, p.consumer, entry.ID, payload)
	if err != nil {
		return err
	}
	version, err := p.store.create(doc)
	if err != nil {
		return err
	}
	began := time.Now()
	status, answer, err := p.receiver.send(entry.ID, payload)
	if err != nil {
		return err
	}
	doc.settle(began, status, answer)
	if err := p.store.replace(doc, version); err != nil {
		return err
	}
	_, err = p.acks.submit(entry.ID)
	return err
}

func (p *program) acknowledge(ids []string) ([]struct{}, error) {
	return make([]struct{}, len(ids)), p.redis.XAck(context.Background(), p.stream, p.group, ids...).Err()
}

func setting(name string) string {
	return os.Getenv("TRIO_ALERTS_" + name)
}
