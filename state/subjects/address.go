package subjects

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Address is where messages come from, as users write it:
//
//	nats://HOST:PORT/SUBJECT                         core NATS: what is published while we listen
//	nats://HOST:PORT/SUBJECT?stream=STREAM           JetStream, with a durable consumer that we make
//	nats://HOST:PORT/?stream=STREAM&consumer=NAME    JetStream, with a durable consumer that is there
//
// tls instead of nats wants TLS. SUBJECT may have the wildcards * and >.
type Address struct {
	Server  string // URL without subject and settings
	Subject string
	Stream  string // empty: core NATS
	// Consumer is the durable consumer to use; empty: one is made, which takes the settings below.
	Consumer string
	// MaxDeliver is after how many deliveries that failed a message is given up; 0: never. A consumer that is there has
	// its own figure; the smaller one holds.
	MaxDeliver int
	// Retry is how long a message waits after its first failure; twice that after the second, and so on up to
	// longestRetry. Default one second.
	Retry time.Duration
	// New leaves out what the stream had before the consumer was made.
	New bool
}

const longestRetry = 5 * time.Minute

var (
	// A subject is tokens between dots. What NATS reserves for itself begins with a dollar sign.
	subjectPattern = regexp.MustCompile(`^[^\s.*>$]([^\s.*>]*)(\.([^\s.*>]+|\*))*(\.>)?$|^\*(\.([^\s.*>]+|\*))*(\.>)?$|^>$`)
	namePattern    = regexp.MustCompile(`^[^\s.*>/\\]{1,255}$`)
	settings       = []string{"stream", "consumer", "max_deliver", "retry", "deliver"}
)

// ParseAddress reads an Address. Errors are sentences for the user.
func ParseAddress(text string) (Address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
		return Address{}, fmt.Errorf("'%s' is not the address of a NATS subject. Write it like nats://nats:4222/orders.new", text)
	}
	if u.User != nil || u.Fragment != "" {
		return Address{}, fmt.Errorf("'%s' may have neither a user nor a fragment. Credentials belong into the environment of the platform", u.Redacted())
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Address{}, fmt.Errorf("the settings of '%s' cannot be read: %w", text, err)
	}
	for name, values := range query {
		if !slices.Contains(settings, name) || len(values) != 1 {
			return Address{}, fmt.Errorf("the setting %s of '%s' is unknown or comes twice. Use each of %s at most once", name, text, strings.Join(settings, ", "))
		}
	}
	a := Address{
		Server:  (&url.URL{Scheme: u.Scheme, Host: u.Host}).String(),
		Subject: strings.TrimPrefix(u.Path, "/"), Stream: query.Get("stream"), Consumer: query.Get("consumer"), Retry: time.Second,
	}
	for name, value := range map[string]string{"stream": a.Stream, "consumer": a.Consumer} {
		if query.Has(name) && !namePattern.MatchString(value) {
			return Address{}, fmt.Errorf("'%s' cannot be the name of a %s", value, name)
		}
	}
	if v := query.Get("max_deliver"); v != "" {
		if a.MaxDeliver, err = strconv.Atoi(v); err != nil || a.MaxDeliver < 1 || a.MaxDeliver > 1000 {
			return Address{}, fmt.Errorf("max_deliver=%s must be a number from 1 to 1000", v)
		}
	}
	if v := query.Get("retry"); v != "" {
		if a.Retry, err = time.ParseDuration(v); err != nil || a.Retry <= 0 || a.Retry > longestRetry {
			return Address{}, fmt.Errorf("retry=%s must be a time up to 5m, like 500ms or 10s", v)
		}
	}
	switch v := query.Get("deliver"); v {
	case "", "all":
	case "new":
		a.New = true
	default:
		return Address{}, fmt.Errorf("deliver=%s must be all or new", v)
	}
	return a, a.check(query)
}

// check looks at what does not go together.
func (a *Address) check(query url.Values) error {
	switch {
	case a.Subject != "" && !subjectPattern.MatchString(a.Subject):
		return fmt.Errorf("'%s' is not a subject of NATS. Write words between dots; * stands for one word and > for all that follow", a.Subject)
	case a.Stream == "" && a.Subject == "":
		return fmt.Errorf("'%s' names no subject. Write it like %s/orders.new", a.Server, a.Server)
	case a.Stream == "" && len(query) > 0:
		return fmt.Errorf("consumer, max_deliver, retry and deliver need a stream: core NATS delivers each message once")
	case a.Consumer != "" && (a.Subject != "" || a.New):
		return fmt.Errorf("the consumer %s has its own subject and start; leave both out", a.Consumer)
	}
	return nil
}

// pause is how long a message waits that has been delivered n times and failed.
func (a *Address) pause(n uint64) time.Duration {
	d := a.Retry
	for ; n > 1 && d < longestRetry; n-- {
		d *= 2
	}
	return min(d, longestRetry)
}
