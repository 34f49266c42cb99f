package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"
)

// event is what every measured call carries, and what an echo answers.
const event = `{"message":"hello","n":1}`

// target is one thing that is called: a URL, and headers beyond the usual.
type target struct {
	url     string
	headers string // "Name: value\r\n" each
	body    string // empty: event
	content string // Content-Type; empty: application/json
}

// conn is one keep-alive connection with its prepared request.
type conn struct {
	net.Conn
	r       *bufio.Reader
	request []byte
	// explanation is X-Thaw-Invocation of the last answer, empty where it had none.
	explanation []byte
}

// refusal is an answer 429: the platform is full.
type refusal struct{ status string }

func (r *refusal) Error() string { return r.status }

// dialLimit and callLimit are when a connection and a call have failed.
const (
	dialLimit = 5 * time.Second
	callLimit = 30 * time.Second
)

func dial(ctx context.Context, t *target) (*conn, error) {
	u, err := url.Parse(t.url)
	if err != nil {
		return nil, err
	}
	c, err := (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	body, content := cmp.Or(t.body, event), cmp.Or(t.content, "application/json")
	request := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s",
		u.RequestURI(), u.Host, content, len(body), t.headers, body)
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 16<<10), request: []byte(request)}, nil
}

// call sends the request and reads the answer. Anything but a 200 of a function that did not fail, or a 202, is an error, a *refusal
// where the platform is full.
func (c *conn) call() error {
	if err := c.SetDeadline(time.Now().Add(callLimit)); err != nil {
		return err
	}
	if _, err := c.Write(c.request); err != nil {
		return err
	}
	status, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	ok := bytes.HasPrefix(status, []byte("HTTP/1.1 200")) || bytes.HasPrefix(status, []byte("HTTP/1.1 202"))
	full := bytes.HasPrefix(status, []byte("HTTP/1.1 429"))
	first := string(bytes.TrimSpace(status))
	length := -1
	c.explanation = c.explanation[:0]
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, is := headerValue(line, "content-length:"); is {
			if length, err = strconv.Atoi(value); err != nil {
				return fmt.Errorf("Content-Length %q: %w", value, err)
			}
		}
		if value, is := headerValue(line, "x-amz-function-error:"); is {
			ok, first = false, "function error "+value
		}
		if value, is := headerValue(line, "x-thaw-invocation:"); is {
			c.explanation = append(c.explanation, value...)
		}
	}
	if length < 0 {
		return errors.New("an answer without Content-Length, which the load generator does not read")
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return err
	}
	if full {
		return &refusal{fmt.Sprintf("%s: %.200s", first, body)}
	}
	if !ok {
		return fmt.Errorf("%s: %.200s", first, body)
	}
	return nil
}

func headerValue(line []byte, lower string) (string, bool) {
	if len(line) < len(lower) || !bytes.EqualFold(line[:len(lower)], []byte(lower)) {
		return "", false
	}
	return string(bytes.TrimSpace(line[len(lower):])), true
}

// latencies are the times of calls, sorted.
type latencies []time.Duration

func (l latencies) percentile(p int) time.Duration {
	return l[max((len(l)*p+99)/100, 1)-1]
}

// sequential makes count calls over one connection, after a few that do not count.
func sequential(ctx context.Context, t *target, count int) (latencies, error) {
	c, err := dial(ctx, t)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for range min(count/10, 50) {
		if err := c.call(); err != nil {
			return nil, err
		}
	}
	took := make(latencies, count)
	for i := range took {
		begin := time.Now()
		if err := c.call(); err != nil {
			return nil, err
		}
		took[i] = time.Since(begin)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	slices.Sort(took)
	return took, nil
}

// throughput is how many calls a second connections connections get answered within the given time.
func throughput(ctx context.Context, t *target, connections int, length time.Duration) (perSecond float64, err error) {
	var conns []*conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range connections {
		c, err := dial(ctx, t)
		if err != nil {
			return 0, err
		}
		conns = append(conns, c)
	}
	// Everything that a first call makes is made before the clock starts.
	if _, err := everyone(ctx, conns, length/4); err != nil {
		return 0, err
	}
	begin := time.Now()
	calls, err := everyone(ctx, conns, length)
	return float64(calls) / time.Since(begin).Seconds(), err
}

func everyone(ctx context.Context, conns []*conn, length time.Duration) (calls int, err error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	counts, errs := make([]int, len(conns)), make([]error, len(conns))
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				errs[i] = c.call()
				counts[i]++
			}
		})
	}
	all.Wait()
	for i, n := range counts {
		calls += n
		if err == nil {
			err = errs[i] // one is enough: the others say the same
		}
	}
	return calls, err
}
