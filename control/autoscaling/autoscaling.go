// Package autoscaling answers the Application Auto Scaling API for the provisioned concurrency of functions. It writes
// records and nothing else: package trigger/autoscaling reads the same records once a second and does the scaling.
//
// The namespace is lambda, the dimension lambda:function:ProvisionedConcurrency, and a resource an alias or a version of
// a function. There are no other resources here; asking for them gives empty lists. Where AWS's text for a mistake is on
// record, it is given; the other texts are thaw's own.
//
// Locks: one mutex in API, held while a target is registered, so that their number stays within its quota. Each write is
// a compare-and-set besides.
package autoscaling

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/applicationautoscaling/types"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	trigger "thaw/trigger/autoscaling"
)

// Quotas of an account, after the page "Quotas for Application Auto Scaling"; and of tags, after its page on tagging.
const (
	maxTargets = 500
	maxActions = 200 // of a target
	maxTags    = 50  // of a target
)

const (
	namespace = types.ServiceNamespaceLambda
	dimension = types.ScalableDimensionLambdaFunctionProvisionedConcurrency
)

// Functions is the catalog of functions.
type Functions interface {
	Function(name string) (*thaw.Function, bool)
}

// API holds the operations.
type API struct {
	account   thaw.Account
	records   *trigger.Records
	functions Functions
	now       func() time.Time

	registering sync.Mutex // see the package comment
}

// New makes an API on the records of the loop.
func New(account thaw.Account, records *trigger.Records, functions Functions) *API {
	return &API{account: account, records: records, functions: functions, now: time.Now}
}

// Register adds the operations to the service application-autoscaling: all that its model has.
func (a *API) Register(s *awsapi.Service) {
	awsapi.Handle(s, "RegisterScalableTarget", a.registerScalableTarget)
	awsapi.Handle(s, "DescribeScalableTargets", a.describeScalableTargets)
	awsapi.Handle(s, "DeregisterScalableTarget", a.deregisterScalableTarget)
	awsapi.Handle(s, "PutScalingPolicy", a.putScalingPolicy)
	awsapi.Handle(s, "DescribeScalingPolicies", a.describeScalingPolicies)
	awsapi.Handle(s, "DeleteScalingPolicy", a.deleteScalingPolicy)
	awsapi.Handle(s, "GetPredictiveScalingForecast", a.getPredictiveScalingForecast)
	awsapi.Handle(s, "PutScheduledAction", a.putScheduledAction)
	awsapi.Handle(s, "DescribeScheduledActions", a.describeScheduledActions)
	awsapi.Handle(s, "DeleteScheduledAction", a.deleteScheduledAction)
	awsapi.Handle(s, "DescribeScalingActivities", a.describeScalingActivities)
	awsapi.Handle(s, "TagResource", a.tagResource)
	awsapi.Handle(s, "UntagResource", a.untagResource)
	awsapi.Handle(s, "ListTagsForResource", a.listTagsForResource)
}

// resource is what a request names: three members that only together say what it is about.
type resource struct {
	namespace types.ServiceNamespace
	id        string
	dimension types.ScalableDimension
}

// ours reports whether there can be a target for it here.
func (r resource) ours() bool {
	return r.namespace == namespace && r.dimension == dimension && resourcePattern.MatchString(r.id)
}

// String names it as AWS's messages do.
func (r resource) String() string {
	return "service namespace: " + string(r.namespace) + ", resource ID: " + r.id + ", scalable dimension: " + string(r.dimension)
}

var resourcePattern = regexp.MustCompile(`^function:([a-zA-Z0-9_-]{1,64}):([a-zA-Z0-9_-]{1,128})$`)

// function takes the resource apart. An unpublished version cannot have provisioned concurrency.
func (r resource) function() (name, qualifier string, err error) {
	if !r.ours() {
		return "", "", invalid("Unsupported service namespace, resource type or scalable dimension")
	}
	m := resourcePattern.FindStringSubmatch(r.id)
	return m[1], m[2], nil
}

func invalid(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeValidation, format, args...)
}

func objectNotFound(format string, args ...any) error {
	return thaw.Errorf(thaw.CodeObjectNotFound, format, args...)
}

func notRegistered(r resource) error {
	return objectNotFound("No scalable target registered for %s", r)
}

// storeError words an error of the store for the caller where the caller can do something about it.
func storeError(err error) error { return operation.Stored(err, thaw.CodeInternalService) }

// newID is 36 hexadecimal digits, as long as the last part of a target's ARN is on AWS.
func newID() string {
	var b [18]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// checkBounds judges a minimum and a maximum where they are given.
func checkBounds(low, high *int32) error {
	switch {
	case low != nil && *low < 0, high != nil && *high < 0:
		return invalid("Capacity cannot be negative: the least for %s is 0.", dimension)
	case low != nil && high != nil && *low > *high:
		return invalid("Maximum capacity cannot be less than minimum capacity")
	}
	return nil
}

// filter is what a listing asks for. AWS takes a dimension only together with a resource.
func filter(r resource) (none bool, err error) {
	if r.dimension != "" && r.id == "" {
		return false, invalid("If you specify a scalable dimension, you must also specify a resource ID.")
	}
	return r.namespace != namespace || r.dimension != "" && r.dimension != dimension, nil
}

// page cuts items, which are in the order of their keys, to what a request asks for.
func page[T any](items []T, key func(T) string, token *string, maxResults *int32, most int) (part []T, next *string, err error) {
	size := most
	if maxResults != nil {
		if *maxResults < 1 || int(*maxResults) > most {
			return nil, nil, invalid("MaxResults must be between 1 and %d.", most)
		}
		size = int(*maxResults)
	}
	if part, next, err = operation.Cut(items, key, token, size); err != nil {
		return nil, nil, thaw.Errorf(thaw.CodeInvalidNextToken, "NextToken is not one that this operation gave. Start again without it.")
	}
	return part, next, nil
}
