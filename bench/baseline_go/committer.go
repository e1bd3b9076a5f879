package main

// committer gathers what many goroutines submit while a flush is under way, and does it together in the next.
type committer[I, R any] struct {
	submitted chan *commit[I, R]
	most      int
	flush     func([]I) ([]R, error)
}

type commit[I, R any] struct {
	item   I
	result R
	err    error
	done   chan struct{}
}

// newCommitter starts so many goroutines that flush, each with at most so many items at once.
func newCommitter[I, R any](flushing, most int, flush func([]I) ([]R, error)) *committer[I, R] {
	c := &committer[I, R]{make(chan *commit[I, R], most), most, flush}
	for range flushing {
		go c.run()
	}
	return c
}

// submit waits for the item's own result.
func (c *committer[I, R]) submit(item I) (R, error) {
	one := &commit[I, R]{item: item, done: make(chan struct{})}
	c.submitted <- one
	<-one.done
	return one.result, one.err
}

func (c *committer[I, R]) run() {
	for first := range c.submitted {
		gathered := c.gather(first)
		items := make([]I, len(gathered))
		for place, one := range gathered {
			items[place] = one.item
		}
		results, err := c.flush(items)
		for place, one := range gathered {
			if one.err = err; err == nil {
				one.result = results[place]
			}
			close(one.done)
		}
	}
}

func (c *committer[I, R]) gather(first *commit[I, R]) []*commit[I, R] {
	gathered := []*commit[I, R]{first}
	for len(gathered) < c.most {
		select {
		case one := <-c.submitted:
			gathered = append(gathered, one)
		default:
			return gathered
		}
	}
	return gathered
}
