package iam

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"thaw"
	"thaw/control/internal/apitest"
)

const (
	trust     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	allowAll  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	basicRole = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
)

func newAPI(t *testing.T) *API {
	t.Helper()
	return New(thaw.Account{ID: "000000000000", Region: "us-east-1"}, apitest.Store(t))
}

func ptr[T any](v T) *T { return &v }

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantError(t *testing.T, err error, code thaw.ErrorCode, message string) {
	t.Helper()
	want := string(code) + ": " + message
	if err == nil || thaw.CodeOf(err) != code || message != "" && err.Error() != want {
		t.Fatalf("error %v\n want %s", err, want)
	}
}

func (a *API) mustRole(t *testing.T, name string) *types.Role {
	t.Helper()
	return must[*sdk.CreateRoleOutput](t)(a.createRole(t.Context(), &sdk.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: ptr(trust)})).Role
}

func TestRoleLifecycle(t *testing.T) {
	a, ctx := newAPI(t), t.Context()
	made := must[*sdk.CreateRoleOutput](t)(a.createRole(ctx, &sdk.CreateRoleInput{
		RoleName: ptr("Role.a+b@c"), Path: ptr("/team/"), AssumeRolePolicyDocument: ptr(trust), Description: ptr("d"),
		Tags: []types.Tag{{Key: ptr("k"), Value: ptr("v")}}, PermissionsBoundary: ptr(basicRole),
	})).Role
	if *made.Arn != "arn:aws:iam::000000000000:role/team/Role.a+b@c" || !regexp.MustCompile(`^AROA[A-Z2-7]{17}$`).MatchString(*made.RoleId) || made.MaxSessionDuration != nil || len(made.Tags) != 1 {
		t.Errorf("%+v", made)
	}
	got := must[*sdk.GetRoleOutput](t)(a.getRole(ctx, &sdk.GetRoleInput{RoleName: ptr("ROLE.a+b@c")})).Role
	document, err := url.PathUnescape(*got.AssumeRolePolicyDocument)
	if err != nil || document != trust || strings.ContainsAny(*got.AssumeRolePolicyDocument, `{" +`) || *got.MaxSessionDuration != 3600 || got.RoleLastUsed == nil || *got.PermissionsBoundary.PermissionsBoundaryArn != basicRole || !got.CreateDate.Equal(*made.CreateDate) {
		t.Errorf("%+v", got)
	}
	_, err = a.createRole(ctx, &sdk.CreateRoleInput{RoleName: ptr("role.A+b@c"), AssumeRolePolicyDocument: ptr(trust)})
	wantError(t, err, thaw.CodeEntityAlreadyExists, "Role with name role.A+b@c already exists.")
	must[*sdk.UpdateRoleOutput](t)(a.updateRole(ctx, &sdk.UpdateRoleInput{RoleName: made.RoleName, MaxSessionDuration: aws.Int32(7200)}))
	must[*sdk.UpdateAssumeRolePolicyOutput](t)(a.updateAssumeRolePolicy(ctx, &sdk.UpdateAssumeRolePolicyInput{RoleName: made.RoleName, PolicyDocument: ptr(" " + trust)}))
	got = must[*sdk.GetRoleOutput](t)(a.getRole(ctx, &sdk.GetRoleInput{RoleName: made.RoleName})).Role
	if *got.Description != "d" || *got.MaxSessionDuration != 7200 || !strings.HasPrefix(*got.AssumeRolePolicyDocument, "%20") {
		t.Errorf("%+v", got)
	}
	profiles := must[*sdk.ListInstanceProfilesForRoleOutput](t)(a.listInstanceProfilesForRole(ctx, &sdk.ListInstanceProfilesForRoleInput{RoleName: made.RoleName}))
	if len(profiles.InstanceProfiles) != 0 || profiles.IsTruncated {
		t.Errorf("%+v", profiles)
	}
	must[*sdk.DeleteRoleOutput](t)(a.deleteRole(ctx, &sdk.DeleteRoleInput{RoleName: made.RoleName}))
}

func TestAbsentRole(t *testing.T) {
	a, ctx := newAPI(t), t.Context()
	name := ptr("none")
	for operation, call := range map[string]func() error{
		"GetRole":    func() error { _, err := a.getRole(ctx, &sdk.GetRoleInput{RoleName: name}); return err },
		"UpdateRole": func() error { _, err := a.updateRole(ctx, &sdk.UpdateRoleInput{RoleName: name}); return err },
		"UpdateAssumeRolePolicy": func() error {
			_, err := a.updateAssumeRolePolicy(ctx, &sdk.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: ptr(trust)})
			return err
		},
		"DeleteRole": func() error { _, err := a.deleteRole(ctx, &sdk.DeleteRoleInput{RoleName: name}); return err },
		"TagRole":    func() error { _, err := a.tagRole(ctx, &sdk.TagRoleInput{RoleName: name}); return err },
		"UntagRole":  func() error { _, err := a.untagRole(ctx, &sdk.UntagRoleInput{RoleName: name}); return err },
		"ListRoleTags": func() error {
			_, err := a.listRoleTags(ctx, &sdk.ListRoleTagsInput{RoleName: name})
			return err
		},
		"PutRolePolicy": func() error {
			_, err := a.putRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: name, PolicyName: ptr("p"), PolicyDocument: ptr(allowAll)})
			return err
		},
		"AttachRolePolicy": func() error {
			_, err := a.attachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: name, PolicyArn: ptr(basicRole)})
			return err
		},
		"ListAttachedRolePolicies": func() error {
			_, err := a.listAttachedRolePolicies(ctx, &sdk.ListAttachedRolePoliciesInput{RoleName: name})
			return err
		},
		"ListInstanceProfilesForRole": func() error {
			_, err := a.listInstanceProfilesForRole(ctx, &sdk.ListInstanceProfilesForRoleInput{RoleName: name})
			return err
		},
	} {
		t.Run(operation, func(t *testing.T) {
			wantError(t, call(), thaw.CodeNoSuchEntity, "The role with name none cannot be found.")
		})
	}
}

func TestAttachedPolicies(t *testing.T) {
	a, ctx := newAPI(t), t.Context()
	a.mustRole(t, "r")
	attach := func(arn string) error {
		_, err := a.attachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: ptr("r"), PolicyArn: &arn})
		return err
	}
	detach := func(arn string) error {
		_, err := a.detachRolePolicy(ctx, &sdk.DetachRolePolicyInput{RoleName: ptr("r"), PolicyArn: &arn})
		return err
	}
	mine := *must[*sdk.CreatePolicyOutput](t)(a.createPolicy(ctx, &sdk.CreatePolicyInput{PolicyName: ptr("Mine"), Path: ptr("/p/"), PolicyDocument: ptr(allowAll)})).Policy.Arn
	for _, arn := range []string{mine, basicRole, basicRole} {
		if err := attach(arn); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, attach("longpolicynamebutnoarn"), thaw.CodeValidationError, "ARN longpolicynamebutnoarn is not valid.")
	absent := "arn:aws:iam::000000000000:policy/nonexistent-policy"
	wantError(t, attach(absent), thaw.CodeNoSuchEntity, "Policy "+absent+" does not exist or is not attachable.")
	wantError(t, attach("arn:aws:iam::000000000000:policy/Mine"), thaw.CodeNoSuchEntity, "Policy arn:aws:iam::000000000000:policy/Mine does not exist or is not attachable.")
	wantError(t, detach(absent), thaw.CodeNoSuchEntity, "Policy "+absent+" was not found.")

	list := must[*sdk.ListAttachedRolePoliciesOutput](t)(a.listAttachedRolePolicies(ctx, &sdk.ListAttachedRolePoliciesInput{RoleName: ptr("r")}))
	if len(list.AttachedPolicies) != 2 || *list.AttachedPolicies[0].PolicyName != "Mine" || *list.AttachedPolicies[1].PolicyName != "AWSLambdaBasicExecutionRole" {
		t.Errorf("%+v", list)
	}
	list = must[*sdk.ListAttachedRolePoliciesOutput](t)(a.listAttachedRolePolicies(ctx, &sdk.ListAttachedRolePoliciesInput{RoleName: ptr("r"), PathPrefix: ptr("/service-role/")}))
	if len(list.AttachedPolicies) != 1 {
		t.Errorf("%+v", list)
	}
	got := must[*sdk.GetPolicyOutput](t)(a.getPolicy(ctx, &sdk.GetPolicyInput{PolicyArn: &mine})).Policy
	if *got.AttachmentCount != 1 || *got.DefaultVersionId != "v1" || !got.IsAttachable || got.Tags == nil || *got.Path != "/p/" {
		t.Errorf("%+v", got)
	}
	_, err := a.deleteRole(ctx, &sdk.DeleteRoleInput{RoleName: ptr("r")})
	wantError(t, err, thaw.CodeDeleteConflict, "Cannot delete entity, must detach all policies first.")
	_, err = a.deletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: &mine})
	wantError(t, err, thaw.CodeDeleteConflict, "Cannot delete a policy attached to entities.")
	for i := range maxAttached - 2 {
		if err := attach(fmt.Sprintf("arn:aws:iam::aws:policy/P%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, attach("arn:aws:iam::aws:policy/OneMore"), thaw.CodeLimitExceeded, "Cannot exceed quota for PoliciesPerRole: 10")
	if err := detach(mine); err != nil {
		t.Error(err)
	}
	must[*sdk.DeletePolicyOutput](t)(a.deletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: &mine}))
	_, err = a.deletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: &mine})
	wantError(t, err, thaw.CodeNoSuchEntity, "Policy "+mine+" was not found.")
}

func TestManagedPolicies(t *testing.T) {
	a, ctx := newAPI(t), t.Context()
	mine := must[*sdk.CreatePolicyOutput](t)(a.createPolicy(ctx, &sdk.CreatePolicyInput{PolicyName: ptr("mine"), PolicyDocument: ptr(allowAll), Description: ptr("d")})).Policy
	if mine.Description != nil || !regexp.MustCompile(`^ANPA[A-Z2-7]{17}$`).MatchString(*mine.PolicyId) {
		t.Errorf("%+v", mine)
	}
	_, err := a.createPolicy(ctx, &sdk.CreatePolicyInput{PolicyName: ptr("mine"), Path: ptr("/other/"), PolicyDocument: ptr(allowAll)})
	wantError(t, err, thaw.CodeEntityAlreadyExists, "A policy called mine already exists. Duplicate names are not allowed.")
	_, err = a.createPolicy(ctx, &sdk.CreatePolicyInput{PolicyName: ptr("big"), PolicyDocument: ptr(strings.Replace(allowAll, "s3:*", "s3:"+strings.Repeat("x", 6144), 1))})
	wantError(t, err, thaw.CodeLimitExceeded, "Cannot exceed quota for PolicySize: 6144")
	version := must[*sdk.GetPolicyVersionOutput](t)(a.getPolicyVersion(ctx, &sdk.GetPolicyVersionInput{PolicyArn: mine.Arn, VersionId: ptr("v1")})).PolicyVersion
	if document, err := url.PathUnescape(*version.Document); err != nil || document != allowAll || !version.IsDefaultVersion {
		t.Errorf("%+v", version)
	}
	for _, c := range []struct{ arn, version string }{{*mine.Arn, "v9"}, {"arn:aws:iam::000000000000:policy/none", "v1"}} {
		_, err = a.getPolicyVersion(ctx, &sdk.GetPolicyVersionInput{PolicyArn: &c.arn, VersionId: &c.version})
		wantError(t, err, thaw.CodeNoSuchEntity, "Policy "+c.arn+" version "+c.version+" does not exist or is not attachable.")
	}
	versions := must[*sdk.ListPolicyVersionsOutput](t)(a.listPolicyVersions(ctx, &sdk.ListPolicyVersionsInput{PolicyArn: mine.Arn}))
	if len(versions.Versions) != 1 || versions.Versions[0].Document != nil {
		t.Errorf("%+v", versions)
	}
	_, err = a.getPolicy(ctx, &sdk.GetPolicyInput{PolicyArn: ptr(basicRole)})
	wantError(t, err, thaw.CodeNoSuchEntity, "")
	_, err = a.getPolicy(ctx, &sdk.GetPolicyInput{PolicyArn: ptr("arn:aws:iam::1:policy/x")})
	wantError(t, err, thaw.CodeValidationError, "ARN arn:aws:iam::1:policy/x is not valid.")

	must[*sdk.CreateRoleOutput](t)(a.createRole(ctx, &sdk.CreateRoleInput{RoleName: ptr("bounded"), AssumeRolePolicyDocument: ptr(trust), PermissionsBoundary: mine.Arn}))
	for _, c := range []struct {
		in   sdk.ListPoliciesInput
		want int
	}{
		{sdk.ListPoliciesInput{}, 1}, {sdk.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal}, 1}, {sdk.ListPoliciesInput{Scope: types.PolicyScopeTypeAws}, 0},
		{sdk.ListPoliciesInput{OnlyAttached: true}, 0}, {sdk.ListPoliciesInput{PathPrefix: ptr("/x/")}, 0},
		{sdk.ListPoliciesInput{PolicyUsageFilter: types.PolicyUsageTypePermissionsBoundary}, 1},
	} {
		if got := must[*sdk.ListPoliciesOutput](t)(a.listPolicies(ctx, &c.in)); len(got.Policies) != c.want {
			t.Errorf("%+v gives %d, want %d", c.in, len(got.Policies), c.want)
		}
	}
	_, err = a.deletePolicy(ctx, &sdk.DeletePolicyInput{PolicyArn: mine.Arn})
	wantError(t, err, thaw.CodeDeleteConflict, "")
}

func TestInlinePolicies(t *testing.T) {
	a, ctx := newAPI(t), t.Context()
	a.mustRole(t, "r")
	put := func(name, document string) error {
		_, err := a.putRolePolicy(ctx, &sdk.PutRolePolicyInput{RoleName: ptr("r"), PolicyName: &name, PolicyDocument: &document})
		return err
	}
	for _, name := range []string{"b", "a", "b"} {
		if err := put(name, allowAll); err != nil {
			t.Fatal(err)
		}
	}
	names := must[*sdk.ListRolePoliciesOutput](t)(a.listRolePolicies(ctx, &sdk.ListRolePoliciesInput{RoleName: ptr("r"), MaxItems: aws.Int32(1)}))
	if len(names.PolicyNames) != 1 || names.PolicyNames[0] != "a" || !names.IsTruncated {
		t.Errorf("%+v", names)
	}
	names = must[*sdk.ListRolePoliciesOutput](t)(a.listRolePolicies(ctx, &sdk.ListRolePoliciesInput{RoleName: ptr("r"), Marker: names.Marker}))
	if len(names.PolicyNames) != 1 || names.PolicyNames[0] != "b" || names.IsTruncated {
		t.Errorf("%+v", names)
	}
	got := must[*sdk.GetRolePolicyOutput](t)(a.getRolePolicy(ctx, &sdk.GetRolePolicyInput{RoleName: ptr("r"), PolicyName: ptr("a")}))
	if document, err := url.PathUnescape(*got.PolicyDocument); err != nil || document != allowAll || *got.RoleName != "r" {
		t.Errorf("%+v", got)
	}
	wantError(t, put("big", strings.Replace(allowAll, "s3:*", "s3:"+strings.Repeat("x", 10240), 1)), thaw.CodeLimitExceeded, "Maximum policy size of 10240 bytes exceeded for role r")
	_, err := a.deleteRole(ctx, &sdk.DeleteRoleInput{RoleName: ptr("r")})
	wantError(t, err, thaw.CodeDeleteConflict, "Cannot delete entity, must delete policies first.")
	for _, name := range []string{"a", "b"} {
		must[*sdk.DeleteRolePolicyOutput](t)(a.deleteRolePolicy(ctx, &sdk.DeleteRolePolicyInput{RoleName: ptr("r"), PolicyName: &name}))
	}
	const none = "The role policy with name a cannot be found."
	_, err = a.deleteRolePolicy(ctx, &sdk.DeleteRolePolicyInput{RoleName: ptr("r"), PolicyName: ptr("a")})
	wantError(t, err, thaw.CodeNoSuchEntity, none)
	_, err = a.getRolePolicy(ctx, &sdk.GetRolePolicyInput{RoleName: ptr("r"), PolicyName: ptr("a")})
	wantError(t, err, thaw.CodeNoSuchEntity, none)
	must[*sdk.DeleteRoleOutput](t)(a.deleteRole(ctx, &sdk.DeleteRoleInput{RoleName: ptr("r")}))
}

func TestRoleTags(t *testing.T) {
	a, ctx := newAPI(t), t.Context()
	a.mustRole(t, "r")
	tag := func(pairs ...string) error {
		in := &sdk.TagRoleInput{RoleName: ptr("r")}
		for i := 0; i < len(pairs); i += 2 {
			in.Tags = append(in.Tags, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
		}
		_, err := a.tagRole(ctx, in)
		return err
	}
	if err := tag("some", "1", "other", "2"); err != nil {
		t.Fatal(err)
	}
	if err := tag("SOME", "3"); err != nil {
		t.Fatal(err)
	}
	wantError(t, tag("k", "1", "K", "2"), thaw.CodeInvalidInput, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
	wantError(t, tag("aws:k", "1"), thaw.CodeInvalidInput, "")
	list := must[*sdk.ListRoleTagsOutput](t)(a.listRoleTags(ctx, &sdk.ListRoleTagsInput{RoleName: ptr("r")}))
	if len(list.Tags) != 2 || *list.Tags[1].Key != "SOME" || *list.Tags[1].Value != "3" {
		t.Errorf("%+v", list.Tags)
	}
	many := make([]string, 0, 100)
	for i := range 49 {
		many = append(many, fmt.Sprint("key", i), "")
	}
	wantError(t, tag(many...), thaw.CodeLimitExceeded, "Cannot exceed quota for TagsPerRole: 50")
	must[*sdk.UntagRoleOutput](t)(a.untagRole(ctx, &sdk.UntagRoleInput{RoleName: ptr("r"), TagKeys: []string{"some", "Other", "absent"}}))
	list = must[*sdk.ListRoleTagsOutput](t)(a.listRoleTags(ctx, &sdk.ListRoleTagsInput{RoleName: ptr("r")}))
	if list.Tags == nil || len(list.Tags) != 0 {
		t.Errorf("%+v", list.Tags)
	}
}

func TestListRolesPages(t *testing.T) {
	a, ctx := newAPI(t), t.Context()
	for i := range 25 {
		a.mustRole(t, fmt.Sprintf("Role%02d", i))
	}
	must[*sdk.CreateRoleOutput](t)(a.createRole(ctx, &sdk.CreateRoleInput{RoleName: ptr("elsewhere"), Path: ptr("/x/"), AssumeRolePolicyDocument: ptr(trust)}))
	var names []string
	var marker *string
	for {
		out := must[*sdk.ListRolesOutput](t)(a.listRoles(ctx, &sdk.ListRolesInput{MaxItems: aws.Int32(10), Marker: marker}))
		for _, r := range out.Roles {
			names = append(names, *r.RoleName)
		}
		if marker = out.Marker; marker == nil {
			break
		}
	}
	if len(names) != 26 || names[0] != "elsewhere" || names[25] != "Role24" {
		t.Errorf("%v", names)
	}
	if out := must[*sdk.ListRolesOutput](t)(a.listRoles(ctx, &sdk.ListRolesInput{PathPrefix: ptr("/x")})); len(out.Roles) != 1 || out.IsTruncated {
		t.Errorf("%+v", out)
	}
	_, err := a.listRoles(ctx, &sdk.ListRolesInput{Marker: ptr("%")})
	wantError(t, err, thaw.CodeValidationError, "")
}

// A role must not go while a policy comes, and every attachment that was acknowledged must be there.
func TestAttachAndDeleteAtOnce(t *testing.T) {
	a, ctx := newAPI(t), t.Context()
	for round := range 20 {
		name := fmt.Sprint("r", round)
		a.mustRole(t, name)
		var wg sync.WaitGroup
		var attached, deleted error
		wg.Go(func() {
			_, attached = a.attachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: &name, PolicyArn: ptr(basicRole)})
		})
		wg.Go(func() { _, deleted = a.deleteRole(ctx, &sdk.DeleteRoleInput{RoleName: &name}) })
		wg.Wait()
		if (attached == nil) == (deleted == nil) {
			t.Fatalf("attach: %v, delete: %v", attached, deleted)
		}
	}
	a.mustRole(t, "many")
	var wg sync.WaitGroup
	for i := range maxAttached {
		wg.Go(func() {
			if _, err := a.attachRolePolicy(ctx, &sdk.AttachRolePolicyInput{RoleName: ptr("many"), PolicyArn: ptr(fmt.Sprintf("arn:aws:iam::aws:policy/P%d", i))}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list := must[*sdk.ListAttachedRolePoliciesOutput](t)(a.listAttachedRolePolicies(ctx, &sdk.ListAttachedRolePoliciesInput{RoleName: ptr("many")})); len(list.AttachedPolicies) != maxAttached {
		t.Errorf("%d of %d", len(list.AttachedPolicies), maxAttached)
	}
}
