package alarms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"thaw"
	"thaw/internal/metadata"
)

// Bounds of one call of a webhook.
const (
	webhookTime = 5 * time.Second
	dialTime    = 3 * time.Second
	maxHeader   = 16 << 10
	maxReply    = 64 << 10 // that is read so that the other side can end well
)

// webhookWaits are the pauses before the second call and those that follow; after the last one the action has failed.
var webhookWaits = []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 2 * time.Minute}

// deliveryHeader has an id that is the same in all calls for one transition, so that a repeat can be recognised.
const deliveryHeader = "X-Thaw-Delivery"

var machines = slices.Concat(metadata.IPv4(), metadata.IPv6())

// mayDial refuses addresses where the machine's cloud answers for it. It sees what a name has resolved to.
func mayDial(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errFinal{err}
	}
	ip := to.Addr().Unmap().WithZone("")
	for _, p := range machines {
		if p.Contains(ip) {
			return errFinal{fmt.Errorf("webhooks may not call %s, where a machine tells about itself", ip)}
		}
	}
	return nil
}

// newWebhooks makes the client of webhooks: no proxy, no redirects, no cookies, and no connection is kept.
func newWebhooks() *http.Client {
	return &http.Client{
		Timeout: webhookTime,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTime, Control: mayDial}).DialContext,
			TLSHandshakeTimeout: dialTime, MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ParseWebhook checks the URL of a webhook. Where it points is the operator's choice: loopback is taken too; see mayDial for what is
// not. Credentials in it are not taken, since they would be shown to everybody who may describe the alarm.
func ParseWebhook(target string) error {
	u, err := url.Parse(target)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		return thaw.Errorf(thaw.CodeValidation, "Invalid webhook URL in an action: it needs a host.")
	case u.User != nil:
		return thaw.Errorf(thaw.CodeValidation, "Invalid webhook URL in an action: leave the user and the password out. Calls carry no credentials.")
	case u.Fragment != "":
		return thaw.Errorf(thaw.CodeValidation, "Invalid webhook URL in an action: leave the part from # on out.")
	}
	return nil
}

// IsWebhook reports whether an action is one, and not an ARN.
func IsWebhook(target string) bool {
	return strings.HasPrefix(target, "http://") || strings.HasPrefix(target, "https://")
}

// hostOf is the host of a webhook, with its port.
func hostOf(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.Host
}

// errFinal is an error after which trying again is of no use.
type errFinal struct{ error }

func (e errFinal) Unwrap() error { return e.error }

// post calls a webhook once.
func (l *Loop) post(ctx context.Context, target, id, message string) error {
	if err := ParseWebhook(target); err != nil {
		return errFinal{err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(message))
	if err != nil {
		return errFinal{err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "thaw")
	req.Header.Set(deliveryHeader, id)
	resp, err := l.webhooks.Do(req)
	if err != nil {
		if told, ok := errors.AsType[*url.Error](err); ok {
			err = told.Err // without the URL, which is said beside it
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxReply) // what it says does not matter
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code >= 300 && code < 400:
		return errFinal{fmt.Errorf("the answer is %s, and redirects are not followed", resp.Status)}
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code == http.StatusTooEarly:
		return fmt.Errorf("the answer is %s", resp.Status)
	default:
		return errFinal{fmt.Errorf("the answer is %s", resp.Status)}
	}
}
