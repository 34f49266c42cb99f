// Package ownbody has one idea: an HTTP client for AWS's SDK that sends a body of its own. The SDK closes its body as soon as the
// answer begins, while net/http may not have seen the body's end yet; that closes the connection, and the answer is cut off ("use of
// closed network connection"; smithy-go 1.28.8, whatever the server is, if it is quick).
package ownbody

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
)

// Client sends requests through another one; nil stands for one without settings. Bodies are held in memory.
type Client struct{ HTTP *http.Client }

// Do sends a request, as (*http.Client).Do does.
func (c Client) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return cmp.Or(c.HTTP, new(http.Client)).Do(r)
}
