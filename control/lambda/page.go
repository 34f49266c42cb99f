package lambda

import (
	"thaw"
	"thaw/control/internal/operation"
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

// given is the marker of a request; an empty one stands for none.
func given(marker *string) *string { return operation.Optional(operation.Value(marker)) }

func wrongMarker(op string) error {
	return invalid("Marker is not one that %s gave. Start again without it.", op)
}

// cut gives the page of all, which key sorts, that marker and maxItems ask for, and the marker of the next one.
func cut[T any](op string, all []T, key func(T) string, marker *string, maxItems *int32) ([]T, *string, error) {
	size, err := pageSize(maxItems)
	if err != nil {
		return nil, nil, err
	}
	page, next, err := operation.Cut(all, key, given(marker), size)
	if err != nil {
		return nil, nil, wrongMarker(op)
	}
	return page, next, nil
}
