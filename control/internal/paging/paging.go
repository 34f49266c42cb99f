// Package paging cuts listings into pages.
package paging

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
)

// ErrToken is a token that Cut has not made.
var ErrToken = errors.New("token is not one of this listing")

// Cut gives up to size items, which are in the order of their keys, from where token says (nil: the beginning), and the
// token of the next page, nil after the last. A token holds the key of the last item of the page before, so that what
// comes and goes between two pages neither repeats nor hides others. It fails with ErrToken.
func Cut[T any](items []T, key func(T) string, token *string, size int) (page []T, next *string, err error) {
	if token != nil {
		after, err := base64.RawURLEncoding.DecodeString(*token)
		if err != nil || len(after) == 0 {
			return nil, nil, ErrToken
		}
		i, found := slices.BinarySearchFunc(items, string(after), func(item T, after string) int { return strings.Compare(key(item), after) })
		if found {
			i++
		}
		items = items[i:]
	}
	if len(items) <= size {
		return items, nil, nil
	}
	last := base64.RawURLEncoding.EncodeToString([]byte(key(items[size-1])))
	return items[:size], &last, nil
}
