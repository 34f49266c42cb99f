package lambda

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
	"thaw/control/internal/operation"
	"thaw/state"
)

// Bounds of tags, after Lambda's page on tags.
const (
	maxTags     = 50
	maxTagKey   = 128 // characters
	maxTagValue = 256 // characters
)

// Other resources of Lambda have tags as well; of them, event source mappings are here.
var taggable = regexp.MustCompile(`^arn:aws[a-zA-Z-]*:lambda:[a-z0-9-]+:\d{12}:(function|code-signing-config|event-source-mapping|capacity-provider):`)

func (a *API) tagResource(ctx context.Context, in *sdk.TagResourceInput) (*sdk.TagResourceOutput, error) {
	if id, ok := a.mappingOf(in.Resource); ok {
		return &sdk.TagResourceOutput{}, a.tagMapping(ctx, id, in.Tags, nil)
	}
	t, err := a.tagged("TagResource", in.Resource)
	if err != nil {
		return nil, err
	}
	if len(in.Tags) == 0 {
		return nil, invalid("An error occurred and the request cannot be processed.")
	}
	err = a.changeTags(ctx, t, func(f *thaw.Function) error {
		if err := checkTags(f.Tags, in.Tags); err != nil {
			return err
		}
		if f.Tags == nil {
			f.Tags = map[string]string{}
		}
		maps.Copy(f.Tags, in.Tags)
		return nil
	})
	return &sdk.TagResourceOutput{}, err
}

func (a *API) untagResource(ctx context.Context, in *sdk.UntagResourceInput) (*sdk.UntagResourceOutput, error) {
	if id, ok := a.mappingOf(in.Resource); ok {
		return &sdk.UntagResourceOutput{}, a.tagMapping(ctx, id, nil, in.TagKeys)
	}
	t, err := a.tagged("UntagResource", in.Resource)
	if err != nil {
		return nil, err
	}
	err = a.changeTags(ctx, t, func(f *thaw.Function) error {
		for _, key := range in.TagKeys {
			delete(f.Tags, key)
		}
		return nil
	})
	return &sdk.UntagResourceOutput{}, err
}

func (a *API) listTags(ctx context.Context, in *sdk.ListTagsInput) (*sdk.ListTagsOutput, error) {
	if id, ok := a.mappingOf(in.Resource); ok {
		tags, err := a.mappingTags(ctx, id)
		return &sdk.ListTagsOutput{Tags: tags}, err
	}
	t, err := a.tagged("ListTags", in.Resource)
	if err != nil {
		return nil, err
	}
	f, _, err := a.find(t)
	if err != nil {
		return nil, err
	}
	tags := f.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	return &sdk.ListTagsOutput{Tags: tags}, nil
}

// tagged reads the ARN of a function in a request about tags.
func (a *API) tagged(op string, resource *string) (target, error) {
	m := taggable.FindStringSubmatch(operation.Value(resource))
	if m == nil {
		return target{}, thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%s' at 'resource' failed to satisfy constraint: Member must be the ARN of a function", operation.Value(resource))
	}
	if m[1] != "function" {
		return target{}, thaw.Errorf(thaw.CodeResourceNotFound, "The resource you requested does not exist.")
	}
	t, err := a.resolve(op, resource, nil)
	if err == nil && t.qualifier != "" {
		err = invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	return t, err
}

func (a *API) changeTags(ctx context.Context, t target, change func(*thaw.Function) error) error {
	_, err := a.update(ctx, t.name, func(f *thaw.Function) error {
		if err := change(f); err != nil {
			return err
		}
		revision(f)
		return nil
	})
	if errors.Is(err, state.ErrNotFound) {
		return a.notFound(t)
	}
	return err
}

// checkTags judges the tags that are to be added to those that are there.
func checkTags(present, added map[string]string) error {
	total := len(present)
	for _, key := range slices.Sorted(maps.Keys(added)) { // so that the same tags always get the same answer
		val := added[key]
		switch {
		case key == "" || utf8.RuneCountInString(key) > maxTagKey:
			return invalid("Tag key '%s' must have between 1 and %d characters.", key, maxTagKey)
		case utf8.RuneCountInString(val) > maxTagValue:
			return invalid("The value of tag '%s' must have at most %d characters.", key, maxTagValue)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("Tag key '%s' is not allowed: the prefix aws: is reserved. Choose another key.", key)
		}
		if err := thaw.CheckTag(key, val); err != nil {
			return err
		}
		if _, ok := present[key]; !ok {
			total++
		}
	}
	if total > maxTags {
		return invalid("Number of tags exceeds resource tag limit.")
	}
	return nil
}
