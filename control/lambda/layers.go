package lambda

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	"thaw/state"
)

func (a *API) registerLayers(s *awsapi.Service) {
	awsapi.Handle(s, "PublishLayerVersion", a.publishLayerVersion)
	awsapi.Handle(s, "GetLayerVersion", a.getLayerVersion)
	awsapi.Handle(s, "GetLayerVersionByArn", a.getLayerVersionByArn)
	awsapi.Handle(s, "DeleteLayerVersion", a.deleteLayerVersion)
	awsapi.Handle(s, "ListLayers", a.listLayers)
	awsapi.Handle(s, "ListLayerVersions", a.listLayerVersions)
	awsapi.Handle(s, "AddLayerVersionPermission", a.addLayerVersionPermission)
	awsapi.Handle(s, "RemoveLayerVersionPermission", a.removeLayerVersionPermission)
	awsapi.Handle(s, "GetLayerVersionPolicy", a.getLayerVersionPolicy)
}

func (a *API) publishLayerVersion(ctx context.Context, in *sdk.PublishLayerVersionInput) (*sdk.PublishLayerVersionOutput, error) {
	name, err := a.layerName("PublishLayerVersion", in.LayerName)
	if err != nil {
		return nil, err
	}
	c := in.Content
	if c == nil || c.ZipFile == nil && operation.Value(c.S3Bucket)+operation.Value(c.S3Key)+operation.Value(c.S3ObjectVersion) == "" {
		return nil, invalid("Please provide a source for layer content.")
	}
	if err := refuseCode(c.S3Bucket, c.S3Key, c.S3ObjectVersion, nil, nil, c.S3ObjectStorageMode); err != nil {
		return nil, err
	}
	code, err := a.store(ctx, "", c.ZipFile)
	if err != nil {
		return nil, err
	}
	v := thaw.LayerVersion{
		Description: operation.Value(in.Description), License: operation.Value(in.LicenseInfo), Created: a.now().UTC(), Code: code,
		Runtimes: texts(in.CompatibleRuntimes), Architectures: texts(in.CompatibleArchitectures),
	}
	for {
		_, err = state.UpdateRecord(ctx, a.cfg.Layers, name, func(r *thaw.LayerRecord) error {
			r.Last++
			v.Number = r.Last
			r.Versions = append(r.Versions, v)
			return checkLayerRecord(r)
		})
		if !errors.Is(err, state.ErrNotFound) {
			break
		}
		v.Number = 1
		err = a.cfg.Layers.Create(ctx, name, &thaw.LayerRecord{Name: name, Last: 1, Versions: []thaw.LayerVersion{v}})
		if !errors.Is(err, state.ErrExists) {
			break
		}
	}
	if err != nil {
		return nil, storeError(err)
	}
	return fill(&sdk.PublishLayerVersionOutput{}, a.describeLayer(name, &v)), nil
}

// checkLayerRecord refuses a layer whose versions would not fit into its record.
func checkLayerRecord(r *thaw.LayerRecord) error {
	data, err := json.Marshal(r)
	if err == nil && len(data) > maxRecord {
		err = invalid("All that is stored of layer %s would take %d bytes, and at most %d can be stored. Delete versions that are not used and send the request again.", r.Name, len(data), maxRecord)
	}
	return err
}

func (a *API) getLayerVersion(ctx context.Context, in *sdk.GetLayerVersionInput) (*sdk.GetLayerVersionOutput, error) {
	name, err := a.layerName("GetLayerVersion", in.LayerName)
	if err != nil {
		return nil, err
	}
	return a.shownLayer(ctx, name, operation.Value(in.VersionNumber))
}

func (a *API) getLayerVersionByArn(ctx context.Context, in *sdk.GetLayerVersionByArnInput) (*sdk.GetLayerVersionByArnOutput, error) {
	ref, err := a.ownLayer("GetLayerVersion", operation.Value(in.Arn))
	if err != nil {
		return nil, err
	}
	v, err := a.shownLayer(ctx, ref.Name, ref.Number)
	if err != nil {
		return nil, err
	}
	return fill(&sdk.GetLayerVersionByArnOutput{}, v), nil
}

func (a *API) shownLayer(ctx context.Context, name string, number int64) (*sdk.GetLayerVersionOutput, error) {
	if number < 1 {
		return nil, errLayerNumber
	}
	v, err := a.findLayer(ctx, name, number)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, thaw.Errorf(thaw.CodeResourceNotFound, "The resource you requested does not exist.")
	}
	return a.describeLayer(name, v), nil
}

var errLayerNumber = invalid("Layer Version Cannot be less than 1")

// deleteLayerVersion succeeds for what is not there, as on AWS. Functions that use the version go on using it.
func (a *API) deleteLayerVersion(ctx context.Context, in *sdk.DeleteLayerVersionInput) (*sdk.DeleteLayerVersionOutput, error) {
	name, err := a.layerName("DeleteLayerVersion", in.LayerName)
	if err != nil {
		return nil, err
	}
	number := operation.Value(in.VersionNumber)
	if number < 1 {
		return nil, errLayerNumber
	}
	v, err := a.findLayer(ctx, name, number)
	if err != nil || v == nil {
		return &sdk.DeleteLayerVersionOutput{}, err
	}
	// A function that is being given the version now may be stored later than it goes: its package is not swept meanwhile.
	if err := a.cfg.Packages.KeepCode(ctx, v.Code.SHA256); err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, storeError(err)
	}
	_, err = state.ReduceRecord(ctx, a.cfg.Layers, name, func(r *thaw.LayerRecord) error {
		r.Versions = slices.DeleteFunc(r.Versions, func(v thaw.LayerVersion) bool { return v.Number == number })
		return nil
	})
	return &sdk.DeleteLayerVersionOutput{}, storeError(err)
}

func (a *API) listLayers(ctx context.Context, in *sdk.ListLayersInput) (*sdk.ListLayersOutput, error) {
	all, err := a.layers(ctx)
	if err != nil {
		return nil, err
	}
	var items []types.LayersListItem
	for _, r := range all {
		for _, v := range slices.Backward(r.Versions) {
			if matches(&v, in.CompatibleRuntime, in.CompatibleArchitecture) {
				item := a.listLayer(r.Name, &v)
				items = append(items, types.LayersListItem{
					LayerName: &r.Name, LayerArn: operation.Optional(a.cfg.Account.LayerARN(r.Name, 0)), LatestMatchingVersion: &item,
				})
				break
			}
		}
	}
	page, next, err := cut("ListLayers", items, func(l types.LayersListItem) string { return *l.LayerName }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &sdk.ListLayersOutput{Layers: orEmpty(page), NextMarker: next}, nil
}

// listLayerVersions shows the newest version first. A layer that is not there has none, as on AWS.
func (a *API) listLayerVersions(ctx context.Context, in *sdk.ListLayerVersionsInput) (*sdk.ListLayerVersionsOutput, error) {
	name, err := a.layerName("ListLayerVersions", in.LayerName)
	if err != nil {
		return nil, err
	}
	var r thaw.LayerRecord
	if err := a.cfg.Layers.Get(ctx, name, &r); err != nil && !errors.Is(err, state.ErrNotFound) {
		return nil, err
	}
	var items []types.LayerVersionsListItem
	for _, v := range slices.Backward(r.Versions) {
		if matches(&v, in.CompatibleRuntime, in.CompatibleArchitecture) {
			items = append(items, a.listLayer(name, &v))
		}
	}
	// Markers are sorted as text is: the highest number has the smallest.
	key := func(v types.LayerVersionsListItem) string { return fmt.Sprintf("%019d", int64(1e18)-v.Version) }
	page, next, err := cut("ListLayerVersions", items, key, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &sdk.ListLayerVersionsOutput{LayerVersions: orEmpty(page), NextMarker: next}, nil
}

// orEmpty has an empty listing shown as such.
func orEmpty[T any](page []T) []T {
	if page == nil {
		return []T{}
	}
	return page
}

func matches(v *thaw.LayerVersion, runtime types.Runtime, architecture types.Architecture) bool {
	return (runtime == "" || slices.Contains(v.Runtimes, string(runtime))) &&
		(architecture == "" || slices.Contains(v.Architectures, string(architecture)))
}

// layers are all layers that have a version, by name.
func (a *API) layers(ctx context.Context) ([]*thaw.LayerRecord, error) {
	records, err := a.cfg.Layers.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []*thaw.LayerRecord
	for _, record := range records {
		r := &thaw.LayerRecord{}
		if err := json.Unmarshal(record.Value, r); err != nil {
			return nil, fmt.Errorf("layer %s: %w", record.Key, err)
		}
		if len(r.Versions) > 0 {
			all = append(all, r)
		}
	}
	return all, nil
}

// layerUsage is the bytes of all layer versions' packages.
func (a *API) layerUsage(ctx context.Context) (size int64, err error) {
	if a.cfg.Layers == nil {
		return 0, nil
	}
	all, err := a.layers(ctx)
	for _, r := range all {
		for i := range r.Versions {
			size += r.Versions[i].Code.Size
		}
	}
	return size, err
}

// findLayer gives a layer's version, nil when there is none.
func (a *API) findLayer(ctx context.Context, name string, number int64) (*thaw.LayerVersion, error) {
	var r thaw.LayerRecord
	err := a.cfg.Layers.Get(ctx, name, &r)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return layerVersion(&r, number), nil
}

func layerVersion(r *thaw.LayerRecord, number int64) *thaw.LayerVersion {
	i, found := slices.BinarySearchFunc(r.Versions, number, func(v thaw.LayerVersion, n int64) int { return cmp.Compare(v.Number, n) })
	if !found {
		return nil
	}
	return &r.Versions[i]
}

// layerName reads the name or ARN of a layer in a request for operation.
func (a *API) layerName(action string, name *string) (string, error) {
	ref, err := a.ownLayer(action, operation.Value(name))
	return ref.Name, err
}

// ownLayer takes a layer's name apart and refuses one of another account, as AWS refuses callers without permission there.
func (a *API) ownLayer(action, name string) (thaw.LayerRef, error) {
	ref, ok := thaw.ParseLayerRef(name)
	if !ok {
		return ref, thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '%s' at 'layerName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+)|[a-zA-Z0-9-_]+", name)
	}
	if ref.Account != "" && (ref.Account != a.cfg.Account.ID || ref.Region != a.cfg.Account.Region) {
		return ref, a.foreignLayer(action, name)
	}
	return ref, nil
}

func (a *API) foreignLayer(action, arn string) error {
	return thaw.Errorf(thaw.CodeAccessDenied, "User: arn:aws:iam::%s:root is not authorized to perform: lambda:%s on resource: %s because no resource-based policy allows the lambda:%s action", a.cfg.Account.ID, action, arn, action)
}

// useLayers finds the layer versions that a request names; nil stands for a request that does not name any.
func (a *API) useLayers(ctx context.Context, arns []string) ([]thaw.Layer, error) {
	if len(arns) == 0 {
		return nil, nil
	}
	if a.cfg.Layers == nil {
		return nil, refused("Layers", "this platform keeps no layers; put their content into the package")
	}
	if len(arns) > thaw.MaxLayers {
		return nil, invalid("Cannot reference more than %d layers.", thaw.MaxLayers)
	}
	layers := make([]thaw.Layer, 0, len(arns))
	for i, arn := range arns {
		ref, ok := thaw.ParseLayerRef(arn)
		if !ok || ref.Account == "" || ref.Number == 0 {
			return nil, thaw.Errorf(thaw.CodeValidation, "1 validation error detected: Value '[%s]' at 'layers' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 140, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: (arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+), Member must not be null]", strings.Join(arns, ", "))
		}
		if ref.Account != a.cfg.Account.ID {
			return nil, a.foreignLayer("GetLayerVersion", arn)
		}
		if ref.Region != a.cfg.Account.Region {
			return nil, invalid("Layers are not in the same region as the function. Layers are expected to be in region %s.", a.cfg.Account.Region)
		}
		arn = a.cfg.Account.LayerARN(ref.Name, ref.Number)
		for _, other := range layers[:i] {
			if strings.HasPrefix(other.ARN, a.cfg.Account.LayerARN(ref.Name, 0)+":") {
				return nil, invalid("Two different versions of the same layer are not allowed to be referenced in the same function. %s and %s are versions of the same layer.", other.ARN, arn)
			}
		}
		v, err := a.findLayer(ctx, ref.Name, ref.Number)
		if err != nil {
			return nil, err
		}
		if v == nil {
			return nil, invalid("Layer version %s does not exist.", arn)
		}
		layers = append(layers, thaw.Layer{ARN: arn, Code: v.Code})
	}
	return layers, nil
}

// describeLayer renders a layer version as GetLayerVersion shows it.
func (a *API) describeLayer(name string, v *thaw.LayerVersion) *sdk.GetLayerVersionOutput {
	item := a.listLayer(name, v)
	return &sdk.GetLayerVersionOutput{
		CompatibleArchitectures: item.CompatibleArchitectures, CompatibleRuntimes: item.CompatibleRuntimes,
		Content: &types.LayerVersionContentOutput{
			CodeSha256: &v.Code.SHA256, CodeSize: v.Code.Size, Location: operation.Optional(a.link("layer:"+name, v.Code.SHA256)),
		},
		CreatedDate: item.CreatedDate, Description: &v.Description, LayerArn: operation.Optional(a.cfg.Account.LayerARN(name, 0)),
		LayerVersionArn: item.LayerVersionArn, LicenseInfo: item.LicenseInfo, Version: v.Number,
	}
}

// listLayer renders what listings show of a layer version.
func (a *API) listLayer(name string, v *thaw.LayerVersion) types.LayerVersionsListItem {
	item := types.LayerVersionsListItem{
		CreatedDate: operation.Optional(v.Created.UTC().Format(timeFormat)), Description: &v.Description,
		LayerVersionArn: operation.Optional(a.cfg.Account.LayerARN(name, v.Number)), LicenseInfo: operation.Optional(v.License), Version: v.Number,
	}
	for _, r := range v.Runtimes {
		item.CompatibleRuntimes = append(item.CompatibleRuntimes, types.Runtime(r))
	}
	for _, r := range v.Architectures {
		item.CompatibleArchitectures = append(item.CompatibleArchitectures, types.Architecture(r))
	}
	return item
}

// texts are the values of an enumeration of the SDK's.
func texts[T ~string](values []T) (all []string) {
	for _, v := range values {
		all = append(all, string(v))
	}
	return all
}
