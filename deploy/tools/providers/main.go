// A provider that knows the schema of another one, and nothing else: `tofu validate` compares a configuration with it.
// Its name is that of the program, terraform-provider-NAME; the schema is PROVIDER_SCHEMAS/NAME.json.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6/tf6server"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type attribute struct {
	Type                         string
	Required, Optional, Computed bool
}

type block struct {
	Attributes map[string]attribute
	Blocks     map[string]nested
}

type nested struct {
	Single bool
	Min    int64
	Block  block
}

type file struct {
	Provider        block
	Resources, Data map[string]block
}

func kind(name string) tftypes.Type {
	if inner, ok := strings.CutPrefix(name, "list "); ok {
		return tftypes.List{ElementType: kind(inner)}
	}
	if inner, ok := strings.CutPrefix(name, "map "); ok {
		return tftypes.Map{ElementType: kind(inner)}
	}
	switch name {
	case "string":
		return tftypes.String
	case "number":
		return tftypes.Number
	case "bool":
		return tftypes.Bool
	}
	return tftypes.DynamicPseudoType
}

func (b block) schema() *tfprotov6.SchemaBlock {
	found := &tfprotov6.SchemaBlock{}
	for name, one := range b.Attributes {
		found.Attributes = append(found.Attributes, &tfprotov6.SchemaAttribute{
			Name: name, Type: kind(one.Type), Required: one.Required, Optional: one.Optional, Computed: one.Computed,
		})
	}
	for name, one := range b.Blocks {
		inner := &tfprotov6.SchemaNestedBlock{
			TypeName: name, Block: one.Block.schema(), Nesting: tfprotov6.SchemaNestedBlockNestingModeList, MinItems: one.Min,
		}
		if one.Single {
			inner.MaxItems = 1
		}
		found.BlockTypes = append(found.BlockTypes, inner)
	}
	return found
}

func schemas(blocks map[string]block) map[string]*tfprotov6.Schema {
	found := map[string]*tfprotov6.Schema{}
	for name, one := range blocks {
		found[name] = &tfprotov6.Schema{Block: one.schema()}
	}
	return found
}

// Whatever is not asked for by `validate` is not there.
type server struct {
	tfprotov6.ProviderServer
	file file
}

func (s server) GetMetadata(context.Context, *tfprotov6.GetMetadataRequest) (*tfprotov6.GetMetadataResponse, error) {
	return &tfprotov6.GetMetadataResponse{}, nil
}

func (s server) GetProviderSchema(context.Context, *tfprotov6.GetProviderSchemaRequest) (*tfprotov6.GetProviderSchemaResponse, error) {
	return &tfprotov6.GetProviderSchemaResponse{
		Provider:          &tfprotov6.Schema{Block: s.file.Provider.schema()},
		ResourceSchemas:   schemas(s.file.Resources),
		DataSourceSchemas: schemas(s.file.Data),
	}, nil
}

func (s server) ValidateProviderConfig(_ context.Context, r *tfprotov6.ValidateProviderConfigRequest) (*tfprotov6.ValidateProviderConfigResponse, error) {
	return &tfprotov6.ValidateProviderConfigResponse{PreparedConfig: r.Config}, nil
}

func (s server) ValidateResourceConfig(context.Context, *tfprotov6.ValidateResourceConfigRequest) (*tfprotov6.ValidateResourceConfigResponse, error) {
	return &tfprotov6.ValidateResourceConfigResponse{}, nil
}

func (s server) ValidateDataResourceConfig(context.Context, *tfprotov6.ValidateDataResourceConfigRequest) (*tfprotov6.ValidateDataResourceConfigResponse, error) {
	return &tfprotov6.ValidateDataResourceConfigResponse{}, nil
}

func (s server) StopProvider(context.Context, *tfprotov6.StopProviderRequest) (*tfprotov6.StopProviderResponse, error) {
	return &tfprotov6.StopProviderResponse{}, nil
}

func main() {
	name := strings.TrimPrefix(filepath.Base(os.Args[0]), "terraform-provider-")
	content, err := os.ReadFile(filepath.Join(os.Getenv("PROVIDER_SCHEMAS"), name+".json"))
	if err != nil {
		log.Fatal(err)
	}
	var found file
	if err := json.Unmarshal(content, &found); err != nil {
		log.Fatal(err)
	}
	if err := tf6server.Serve("registry.opentofu.org/hashicorp/"+name, func() tfprotov6.ProviderServer { return server{file: found} }); err != nil {
		log.Fatal(err)
	}
}
