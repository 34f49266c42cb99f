package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"thaw"
	"thaw/control/internal/operation"
)

// tag is a key with its value. IAM keeps the order and the case of keys, and compares them without regard to case.
type tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (a *API) tagRole(ctx context.Context, in *sdk.TagRoleInput) (*sdk.TagRoleOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(r *role) error {
		tags, err := addTags(r.Tags, in.Tags)
		r.Tags = tags
		return err
	})
	return &sdk.TagRoleOutput{}, err
}

func (a *API) untagRole(ctx context.Context, in *sdk.UntagRoleInput) (*sdk.UntagRoleOutput, error) {
	_, err := a.changeRole(ctx, in.RoleName, func(r *role) error {
		r.Tags = slices.DeleteFunc(r.Tags, func(t tag) bool {
			return slices.ContainsFunc(in.TagKeys, func(k string) bool { return strings.EqualFold(k, t.Key) })
		})
		return nil
	})
	return &sdk.UntagRoleOutput{}, err
}

func (a *API) listRoleTags(ctx context.Context, in *sdk.ListRoleTagsInput) (*sdk.ListRoleTagsOutput, error) {
	r, err := a.role(ctx, in.RoleName)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(r.Tags, func(x, y tag) int { return strings.Compare(key(x.Key), key(y.Key)) })
	part, next, err := page(r.Tags, func(t tag) string { return key(t.Key) }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListRoleTagsOutput{Tags: showTags(part), Marker: next, IsTruncated: next != nil}
	if out.Tags == nil {
		out.Tags = []types.Tag{}
	}
	return out, nil
}

// addTags gives present with added put in, or says why they cannot be.
func addTags(present []tag, added []types.Tag) ([]tag, error) {
	seen := map[string]bool{}
	for _, t := range added {
		k := operation.Value(t.Key)
		switch {
		case seen[key(k)]:
			return nil, thaw.Errorf(thaw.CodeInvalidInput, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		case strings.HasPrefix(key(k), "aws:"):
			return nil, thaw.Errorf(thaw.CodeInvalidInput, "Tag key '%s' is not allowed: the prefix aws: is reserved. Choose another key.", k)
		}
		seen[key(k)] = true
		at := slices.IndexFunc(present, func(p tag) bool { return strings.EqualFold(p.Key, k) })
		if at < 0 {
			present = append(present, tag{Key: k, Value: operation.Value(t.Value)})
		} else {
			present[at] = tag{Key: k, Value: operation.Value(t.Value)}
		}
	}
	if len(present) > maxTags {
		return nil, overQuota("TagsPerRole", maxTags)
	}
	return present, nil
}

func showTags(tags []tag) []types.Tag {
	if len(tags) == 0 {
		return nil
	}
	shown := make([]types.Tag, len(tags))
	for i, t := range tags {
		shown[i] = types.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)}
	}
	return shown
}
