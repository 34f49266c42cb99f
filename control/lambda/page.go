package lambda

import (
	"encoding/base64"
	"slices"
	"strings"

	"thaw"
)

// maxPage is the most that a listing puts on a page, whatever MaxItems says, after the documentation of ListFunctions and
// ListVersionsByFunction.
const maxPage = 50

// pageSize is the number of items for a page.
func pageSize(maxItems *int32) (int, error) {
	if maxItems == nil {
		return maxPage, nil
	}
	if *maxItems < 1 {
		return 0, thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%d' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1", *maxItems)
	}
	return min(maxPage, int(*maxItems)), nil
}

// A marker is the key of the last item of the page before, so that items which come and go between two pages neither
// repeat nor hide others.
func makeMarker(key string) *string {
	s := base64.RawURLEncoding.EncodeToString([]byte(key))
	return &s
}

func readMarker(operation string, marker *string) (string, error) {
	key, err := base64.RawURLEncoding.DecodeString(value(marker))
	if err != nil {
		return "", wrongMarker(operation)
	}
	return string(key), nil
}

func wrongMarker(operation string) error {
	return invalid("Marker is not one that %s gave. Start again without it.", operation)
}

// cut gives the page of all, which key sorts, that marker and maxItems ask for, and the marker of the next one.
func cut[T any](operation string, all []T, key func(T) string, marker *string, maxItems *int32) ([]T, *string, error) {
	after, err := readMarker(operation, marker)
	if err != nil {
		return nil, nil, err
	}
	size, err := pageSize(maxItems)
	if err != nil {
		return nil, nil, err
	}
	if after != "" {
		i, found := slices.BinarySearchFunc(all, after, func(item T, after string) int { return strings.Compare(key(item), after) })
		if found {
			i++
		}
		all = all[i:]
	}
	if len(all) <= size {
		return all, nil, nil
	}
	return all[:size], makeMarker(key(all[size-1])), nil
}
