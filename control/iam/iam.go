// Package iam answers the operations of AWS IAM that tools make before and after they create a function: roles, their
// inline and managed policies, and their tags. It keeps records and shows them again. It enforces nothing: no policy is
// ever evaluated, no role can be assumed, and a function may name a role that was never created. Users, groups and
// instance profiles do not exist here.
//
// Locks: one mutex in API, held by every operation that writes, so that a role or policy is not deleted while something
// is being attached. It is held across calls of the store. Each write is a compare-and-set besides, so that another
// process on the same store loses no change.
package iam

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	"thaw/state"
)

// Quotas of an account, after the page "IAM and AWS STS quotas".
const (
	maxRoles          = 1000
	maxPolicies       = 1500
	maxAttached       = 10
	maxTags           = 50
	maxTrustPolicy    = 2048  // characters that are not white space
	maxManagedPolicy  = 6144  // characters that are not white space
	maxInlinePolicies = 10240 // characters that are not white space, all inline policies of a role together
)

// API holds the operations.
type API struct {
	account thaw.Account
	roles   *state.Records
	// policies are the customer managed ones. AWS's own are known by their ARN's form only.
	policies *state.Records
	now      func() time.Time

	mu sync.Mutex // see the package comment
}

// New makes an API on the records "role" and "policy" of the store.
func New(account thaw.Account, store *state.Store) *API {
	return &API{account: account, roles: store.Records("role"), policies: store.Records("policy"), now: time.Now}
}

// Register adds the operations to the IAM service. Operations of the model that are not among them answer 501.
func (a *API) Register(s *awsapi.Service) {
	awsapi.Handle(s, "CreateRole", a.createRole)
	awsapi.Handle(s, "GetRole", a.getRole)
	awsapi.Handle(s, "ListRoles", a.listRoles)
	awsapi.Handle(s, "UpdateRole", a.updateRole)
	awsapi.Handle(s, "UpdateAssumeRolePolicy", a.updateAssumeRolePolicy)
	awsapi.Handle(s, "DeleteRole", a.deleteRole)
	awsapi.Handle(s, "TagRole", a.tagRole)
	awsapi.Handle(s, "UntagRole", a.untagRole)
	awsapi.Handle(s, "ListRoleTags", a.listRoleTags)
	awsapi.Handle(s, "ListInstanceProfilesForRole", a.listInstanceProfilesForRole)

	awsapi.Handle(s, "PutRolePolicy", a.putRolePolicy)
	awsapi.Handle(s, "GetRolePolicy", a.getRolePolicy)
	awsapi.Handle(s, "DeleteRolePolicy", a.deleteRolePolicy)
	awsapi.Handle(s, "ListRolePolicies", a.listRolePolicies)

	awsapi.Handle(s, "AttachRolePolicy", a.attachRolePolicy)
	awsapi.Handle(s, "DetachRolePolicy", a.detachRolePolicy)
	awsapi.Handle(s, "ListAttachedRolePolicies", a.listAttachedRolePolicies)
	awsapi.Handle(s, "CreatePolicy", a.createPolicy)
	awsapi.Handle(s, "GetPolicy", a.getPolicy)
	awsapi.Handle(s, "GetPolicyVersion", a.getPolicyVersion)
	awsapi.Handle(s, "ListPolicies", a.listPolicies)
	awsapi.Handle(s, "ListPolicyVersions", a.listPolicyVersions)
	awsapi.Handle(s, "DeletePolicy", a.deletePolicy)
}

// key makes the record key of a name. Names of IAM are unique without regard to case.
func key(name string) string { return strings.ToLower(name) }

// newID makes an identifier of AWS's form: four letters that say what it is of, and 17 that are random.
func newID(prefix string) string {
	var b [11]byte
	rand.Read(b[:])
	return prefix + base32.StdEncoding.EncodeToString(b[:])[:17]
}

// all decodes every record of a kind, in the order of its keys.
func all[T any](ctx context.Context, r *state.Records) ([]*T, error) {
	records, err := r.List(ctx, "")
	if err != nil {
		return nil, err
	}
	values := make([]*T, len(records))
	for i, record := range records {
		values[i] = new(T)
		if err := json.Unmarshal(record.Value, values[i]); err != nil {
			return nil, fmt.Errorf("record %s: %w", record.Key, err)
		}
	}
	return values, nil
}

// defaultPage is how much of a listing a request gets that does not say, after the documentation of MaxItems.
const defaultPage = 100

// page cuts items, which are in the order of their keys, to what a request asks for. An empty marker stands for none.
func page[T any](items []T, key func(T) string, marker *string, maxItems *int32) (part []T, next *string, err error) {
	marker = operation.Optional(operation.Value(marker))
	if part, next, err = operation.Cut(items, key, marker, int(cmp.Or(operation.Value(maxItems), defaultPage))); err != nil {
		return nil, nil, thaw.Errorf(thaw.CodeValidationError, "Marker is not one that this operation gave. Start again without it.")
	}
	return part, next, nil
}

// escape writes a policy document as IAM returns it: percent-encoded after RFC 3986, a space as %20.
func escape(document string) *string {
	s := strings.ReplaceAll(url.QueryEscape(document), "+", "%20")
	return &s
}

// storeError words an error of the store for the caller where the caller can do something about it.
func storeError(err error) error { return operation.Stored(err, thaw.CodeInternal) }

// quota is how many records of a kind there may be, and IAM's name for that bound.
type quota struct {
	name string
	most int
}

// createRecord stores a new record within its quota. taken is IAM's sentence about a name that exists already, with a
// place for the name. The caller holds API.mu.
func createRecord(ctx context.Context, records *state.Records, name string, v any, q quota, taken string) error {
	present, err := records.List(ctx, "")
	if err != nil {
		return err
	}
	if len(present) >= q.most {
		return overQuota(q.name, q.most)
	}
	err = records.Create(ctx, key(name), v)
	if errors.Is(err, state.ErrExists) {
		return thaw.Errorf(thaw.CodeEntityAlreadyExists, taken, name)
	}
	if err != nil {
		return storeError(err)
	}
	return nil
}
