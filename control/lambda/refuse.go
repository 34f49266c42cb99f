package lambda

import (
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"thaw/control/internal/operation"
)

// settings are the members that CreateFunction and UpdateFunctionConfiguration share and that thaw can honour only in
// their default form. A value that cannot be honoured is refused, never stored and ignored; the defaults that tools
// send without being asked pass.
type settings struct {
	CapacityProviderConfig *types.CapacityProviderConfig
	DurableConfig          *types.DurableConfig
	FileSystemConfigs      []types.FileSystemConfig
	ImageConfig            *types.ImageConfig
	KMSKeyArn              *string
	VpcConfig              *types.VpcConfig
}

func refuseSettings(s *settings) error {
	switch {
	case s.CapacityProviderConfig != nil:
		return refused("CapacityProviderConfig", "functions run on this machine; leave it out")
	case s.DurableConfig != nil:
		return refused("DurableConfig", "durable executions are not kept; leave it out")
	case len(s.FileSystemConfigs) > 0:
		return refused("FileSystemConfigs", "network file systems are not mounted; leave it out, or bring the files in the package")
	case s.ImageConfig != nil && (len(s.ImageConfig.Command) > 0 || len(s.ImageConfig.EntryPoint) > 0 || operation.Value(s.ImageConfig.WorkingDirectory) != ""):
		return refused("ImageConfig", "container images cannot run; leave it out")
	case operation.Value(s.KMSKeyArn) != "":
		return refused("KMSKeyArn", "environment variables are not encrypted with keys of KMS; leave it out")
	case s.VpcConfig != nil && (len(s.VpcConfig.SubnetIds) > 0 || len(s.VpcConfig.SecurityGroupIds) > 0 || operation.Value(s.VpcConfig.Ipv6AllowedForDualStack)):
		return refused("VpcConfig", "there are no VPCs, functions reach the network through this host; leave it out")
	}
	return nil
}

var errNoCode = invalid("Please provide a source for function code.")

// refuseCode lets through only a package that comes in the request itself.
func refuseCode(bucket, key, version, image, kms *string, mode types.S3ObjectStorageMode) error {
	switch {
	case operation.Value(image) != "":
		return refused("ImageUri", "container images cannot run; send a .zip package in ZipFile")
	case operation.Value(bucket) != "" || operation.Value(key) != "" || operation.Value(version) != "" || mode != "":
		return refused("S3Bucket", "packages are not read from S3; send the package in ZipFile (at most 50 MB)")
	case operation.Value(kms) != "":
		return refused("SourceKMSKeyArn", "packages are not encrypted with keys of KMS; leave it out")
	}
	return nil
}

var errPublishTo = refused("PublishTo", "there are no capacity providers; leave it out, and use Publish or PublishVersion")

// refused says which member cannot be honoured, why, and what to send instead.
func refused(member, why string) error {
	return invalid("%s is not supported by thaw yet: %s.", member, why)
}
