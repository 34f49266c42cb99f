// Package operation is what the operations of every API have in common: optional members of requests and answers, the
// pages of listings, the caller's trace, and the words for a store that is full. It knows no API and keeps nothing.
package operation

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"thaw"
	"thaw/awsapi"
	"thaw/state"
	"thaw/telemetry/xray"
)

// CallersTrace is the trace header of a request: the SDKs in a function send the one that they were told. It is empty where there
// is none, or one that is too long to be kept.
func CallersTrace(ctx context.Context) string {
	trace := awsapi.RequestFrom(ctx).Header.Get("X-Amzn-Trace-Id")
	if len(trace) > xray.MaxHeader {
		return ""
	}
	return trace
}

// Value is what a member of a request holds, and the zero value where the request has none.
func Value[T any](member *T) T {
	if member == nil {
		var zero T
		return zero
	}
	return *member
}

// Optional is a member of an answer: nil for what is not set, since AWS leaves such members out.
func Optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// Stored words an error of the store for the caller where the caller can do something about it. Code is the API's own for
// failures of the service. Other errors, and nil, stay as they are.
func Stored(err error, code thaw.ErrorCode) error {
	if errors.Is(err, state.ErrFull) {
		return &thaw.Error{Code: code, Message: "There is no space left in the data directory; free some and send the request again.", Cause: err}
	}
	return err
}

// ErrToken is a token that Token has not made.
var ErrToken = errors.New("token is not one of this listing")

// Token is the token of the page after the one whose last item has that key, which is not empty. It holds the key, so that
// what comes and goes between two pages neither repeats nor hides others.
func Token(last string) *string {
	token := base64.RawURLEncoding.EncodeToString([]byte(last))
	return &token
}

// After is the key that a token holds: the page begins after it. It is empty, for the beginning, where token is nil. It
// fails with ErrToken.
func After(token *string) (key string, err error) {
	if token == nil {
		return "", nil
	}
	after, err := base64.RawURLEncoding.DecodeString(*token)
	if err != nil || len(after) == 0 {
		return "", ErrToken
	}
	return string(after), nil
}

// Cut gives up to size items, at least 1, of those that are in the order of their keys, from where token says (nil: the
// beginning), and the token of the next page, nil after the last. It fails with ErrToken.
func Cut[T any](items []T, key func(T) string, token *string, size int) (page []T, next *string, err error) {
	after, err := After(token)
	if err != nil {
		return nil, nil, err
	}
	if after != "" {
		i, found := slices.BinarySearchFunc(items, after, func(item T, after string) int { return strings.Compare(key(item), after) })
		if found {
			i++
		}
		items = items[i:]
	}
	if len(items) <= size {
		return items, nil, nil
	}
	return items[:size], Token(key(items[size-1])), nil
}
