// Tells the story of tests/clients/sdk_story.py with the AWS SDK for Go: one line of JSON per step.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3vectors"
	"github.com/aws/aws-sdk-go-v2/service/s3vectors/document"
	"github.com/aws/aws-sdk-go-v2/service/s3vectors/types"
	"github.com/aws/smithy-go"
	smithydocument "github.com/aws/smithy-go/document"
)

const (
	recordCount   = 250
	wideDimension = 1024
	wideCount     = 500
)

type object = map[string]any

type story struct {
	client *s3vectors.Client
	bucket string
}

var ctx = context.Background()

func main() {
	loaded, err := config.LoadDefaultConfig(ctx)
	check(err)
	s := story{s3vectors.NewFromConfig(loaded), os.Args[1]}
	s.buckets()
	s.indexes()
	s.records()
	s.queries()
	s.lists()
	s.documents()
	s.refusedDocuments()
	s.floats()
	s.notFinite()
	s.wide()
	s.errors()
	s.policies()
	s.tags()
	s.deletions()
}

func (s story) buckets() {
	for _, name := range []string{s.bucket, s.bucket + "-2"} {
		made, err := s.client.CreateVectorBucket(ctx, &s3vectors.CreateVectorBucketInput{
			VectorBucketName: &name,
			Tags:             map[string]string{"made-by": "sdk"},
		})
		check(err)
		emit("create bucket "+name, object{"arn": *made.VectorBucketArn})
	}
	got, err := s.client.GetVectorBucket(ctx, &s3vectors.GetVectorBucketInput{VectorBucketName: &s.bucket})
	check(err)
	emit("get bucket", object{
		"name":    *got.VectorBucket.VectorBucketName,
		"arn":     *got.VectorBucket.VectorBucketArn,
		"created": seconds(got.VectorBucket.CreationTime),
		"sse":     got.VectorBucket.EncryptionConfiguration.SseType,
	})
	pages := s3vectors.NewListVectorBucketsPaginator(s.client, &s3vectors.ListVectorBucketsInput{
		Prefix: &s.bucket, MaxResults: aws.Int32(1),
	})
	names := []string{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		check(err)
		for _, bucket := range page.VectorBuckets {
			names = append(names, *bucket.VectorBucketName)
		}
	}
	emit("list buckets", object{"names": names})
}

func (s story) indexes() {
	for _, name := range []string{"birds", "wide"} {
		dimension := int32(3)
		if name == "wide" {
			dimension = wideDimension
		}
		made, err := s.client.CreateIndex(ctx, &s3vectors.CreateIndexInput{
			VectorBucketName: &s.bucket,
			IndexName:        &name,
			DataType:         types.DataTypeFloat32,
			Dimension:        &dimension,
			DistanceMetric:   types.DistanceMetricEuclidean,
			MetadataConfiguration: &types.MetadataConfiguration{
				NonFilterableMetadataKeys: []string{"note"},
			},
			Tags: map[string]string{"index": name},
		})
		check(err)
		emit("create index "+name, object{"arn": *made.IndexArn})
	}
	got, err := s.client.GetIndex(ctx, &s3vectors.GetIndexInput{
		VectorBucketName: &s.bucket, IndexName: aws.String("birds"),
	})
	check(err)
	emit("get index", object{
		"name":           *got.Index.IndexName,
		"bucket":         *got.Index.VectorBucketName,
		"arn":            *got.Index.IndexArn,
		"created":        seconds(got.Index.CreationTime),
		"data_type":      got.Index.DataType,
		"dimension":      *got.Index.Dimension,
		"metric":         got.Index.DistanceMetric,
		"non_filterable": got.Index.MetadataConfiguration.NonFilterableMetadataKeys,
	})
	pages := s3vectors.NewListIndexesPaginator(s.client, &s3vectors.ListIndexesInput{
		VectorBucketName: &s.bucket, MaxResults: aws.Int32(1),
	})
	names := []string{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		check(err)
		for _, index := range page.Indexes {
			names = append(names, *index.IndexName)
		}
	}
	emit("list indexes", object{"names": names})
}

func (s story) records() {
	vectors := []types.PutInputVector{}
	for i := range recordCount {
		vectors = append(vectors, record(key(i), []float32{float32(i), 0, 0}, object{
			"n": i, "even": i%2 == 0, "name": "bird " + key(i),
		}))
	}
	check(s.put("birds", vectors...))
	emit("put", object{"count": len(vectors)})
	got := s.get("birds", key(7), "missing")
	emit("get", object{
		"keys":     []string{*got[0].Key},
		"data":     floatsOf(got[0].Data),
		"metadata": plain(got[0].Metadata),
	})
}

func (s story) queries() {
	answer, err := s.client.QueryVectors(ctx, &s3vectors.QueryVectorsInput{
		VectorBucketName: &s.bucket,
		IndexName:        aws.String("birds"),
		QueryVector:      &types.VectorDataMemberFloat32{Value: []float32{0, 0, 0}},
		TopK:             aws.Int32(3),
		Filter: document.NewLazyDocument(object{
			"$and": []any{object{"even": true}, object{"n": object{"$gte": 100}}},
		}),
		ReturnDistance: true,
		ReturnMetadata: true,
	})
	check(err)
	keys, distances, metadata := []string{}, []float32{}, []any{}
	for _, vector := range answer.Vectors {
		keys = append(keys, *vector.Key)
		distances = append(distances, *vector.Distance)
		metadata = append(metadata, plain(vector.Metadata))
	}
	emit("query", object{
		"keys": keys, "distances": distances, "metadata": metadata, "metric": answer.DistanceMetric,
	})
	// This version of the SDK does not know that a query has pages.
	answer, err = s.client.QueryVectors(ctx, &s3vectors.QueryVectorsInput{
		VectorBucketName: &s.bucket,
		IndexName:        aws.String("birds"),
		QueryVector:      &types.VectorDataMemberFloat32{Value: []float32{0, 0, 0}},
		TopK:             aws.Int32(recordCount),
	})
	check(err)
	keys = []string{}
	for _, vector := range answer.Vectors {
		keys = append(keys, *vector.Key)
	}
	emit("query pages", object{"sizes": []int{len(keys)}, "keys": keys})
}

func (s story) lists() {
	sizes, keys := s.list(&s3vectors.ListVectorsInput{MaxResults: aws.Int32(100)})
	emit("list pages", object{"sizes": sizes, "keys": keys})
	segments := [][]string{}
	for i := range int32(4) {
		_, keys := s.list(&s3vectors.ListVectorsInput{SegmentCount: aws.Int32(4), SegmentIndex: i})
		segments = append(segments, keys)
	}
	emit("list segments", object{"segments": segments})
}

func (s story) list(input *s3vectors.ListVectorsInput) ([]int, []string) {
	input.VectorBucketName = &s.bucket
	input.IndexName = aws.String("birds")
	pages := s3vectors.NewListVectorsPaginator(s.client, input)
	sizes, keys := []int{}, []string{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		check(err)
		sizes = append(sizes, len(page.Vectors))
		for _, vector := range page.Vectors {
			keys = append(keys, *vector.Key)
		}
	}
	return sizes, keys
}

func (s story) documents() {
	check(s.put("birds", record("document", []float32{1, 1, 1}, object{
		"integer": 7, "negative": -3, "half": 0.5, "tiny": 5e-324, "huge": 1e300,
		"beyond": int64(9007199254740993), "flag": true, "no": false, "text": "Großer Brachvogel 鷸 🐦 \"\\\n\u2028",
		"ключ": "key", "words": []string{"a", "b"}, "numbers": []any{1, 2.5}, "note": "not for filters",
	})))
	emit("document", object{"metadata": plain(s.get("birds", "document")[0].Metadata)})
	check(s.put("birds", record("bare", []float32{1, 1, 1}, nil)))
	emit("no document", object{"metadata": plain(s.get("birds", "bare")[0].Metadata)})
}

func (s story) refusedDocuments() {
	cases := map[string]any{
		"nested": object{"a": object{"b": 1}}, "null": object{"a": nil}, "null in array": object{"a": []any{"x", nil}},
		"empty array": object{"a": []any{}}, "array": []any{1}, "text": "x", "number": 1, "NaN": object{"a": math.NaN()},
	}
	for name, document := range cases {
		emitError("refused document "+name, s.putDocument(document))
	}
}

// putDocument survives the panic with which the SDK answers a document with a NaN in it.
func (s story) putDocument(metadata any) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v", panicked)
		}
	}()
	return s.put("birds", record("refused", []float32{1, 1, 1}, metadata))
}

func (s story) floats() {
	bits := []uint32{0x7f7fffff, 0xff7fffff, 0x00800000, 0x00000001, 0x3dcccccd, 0x3eaaaaab, 0x4b800001, 0x80000000, 0x3f800001}
	got := []uint32{}
	for i := 0; i < len(bits); i += 3 {
		data := []float32{}
		for _, word := range bits[i : i+3] {
			data = append(data, math.Float32frombits(word))
		}
		check(s.put("birds", record("floats", data, nil)))
		for _, value := range floatsOf(s.get("birds", "floats")[0].Data) {
			got = append(got, math.Float32bits(value))
		}
	}
	emit("floats", object{"bits": got})
}

func (s story) notFinite() {
	values := map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}
	for name, value := range values {
		data := []float32{0, float32(value), 0}
		emitError("put "+name, s.put("birds", record("refused", data, nil)))
		_, err := s.client.QueryVectors(ctx, &s3vectors.QueryVectorsInput{
			VectorBucketName: &s.bucket,
			IndexName:        aws.String("birds"),
			QueryVector:      &types.VectorDataMemberFloat32{Value: data},
			TopK:             aws.Int32(1),
		})
		emitError("query "+name, err)
	}
}

func (s story) wide() {
	vectors := []types.PutInputVector{}
	for i := range wideCount {
		data := make([]float32, wideDimension)
		for j := range data {
			data[j] = float32(i) + float32(j)/wideDimension
		}
		vectors = append(vectors, record(key(i), data, nil))
	}
	check(s.put("wide", vectors...))
	data := floatsOf(s.get("wide", key(499))[0].Data)
	emit("wide", object{"first": data[0], "last": data[wideDimension-1], "count": len(data)})
}

func (s story) errors() {
	_, err := s.client.GetVectorBucket(ctx, &s3vectors.GetVectorBucketInput{VectorBucketName: aws.String("no-such-bucket")})
	emitError("unknown bucket", err)
	_, err = s.client.GetIndex(ctx, &s3vectors.GetIndexInput{VectorBucketName: &s.bucket, IndexName: aws.String("missing")})
	emitError("unknown index", err)
	_, err = s.client.CreateVectorBucket(ctx, &s3vectors.CreateVectorBucketInput{VectorBucketName: &s.bucket})
	emitError("bucket again", err)
	_, err = s.client.DeleteVectorBucket(ctx, &s3vectors.DeleteVectorBucketInput{VectorBucketName: &s.bucket})
	emitError("bucket not empty", err)
	_, err = s.client.CreateIndex(ctx, &s3vectors.CreateIndexInput{
		VectorBucketName: &s.bucket,
		IndexName:        aws.String("refused"),
		DataType:         types.DataTypeFloat32,
		Dimension:        aws.Int32(5000),
		DistanceMetric:   "angular",
	})
	emitError("two fields", err)
	emitError("wrong dimension", s.put("birds", record("k", []float32{1}, nil)))
}

func (s story) policies() {
	get := func() (*s3vectors.GetVectorBucketPolicyOutput, error) {
		return s.client.GetVectorBucketPolicy(ctx, &s3vectors.GetVectorBucketPolicyInput{VectorBucketName: &s.bucket})
	}
	_, err := get()
	emitError("no policy", err)
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3vectors:*","Resource":"*"}]}`
	_, err = s.client.PutVectorBucketPolicy(ctx, &s3vectors.PutVectorBucketPolicyInput{
		VectorBucketName: &s.bucket, Policy: &policy,
	})
	check(err)
	got, err := get()
	check(err)
	emit("policy", object{"policy": *got.Policy})
	_, err = s.client.DeleteVectorBucketPolicy(ctx, &s3vectors.DeleteVectorBucketPolicyInput{VectorBucketName: &s.bucket})
	check(err)
	_, err = get()
	emitError("policy deleted", err)
}

func (s story) tags() {
	bucket, err := s.client.GetVectorBucket(ctx, &s3vectors.GetVectorBucketInput{VectorBucketName: &s.bucket})
	check(err)
	index, err := s.client.GetIndex(ctx, &s3vectors.GetIndexInput{VectorBucketName: &s.bucket, IndexName: aws.String("birds")})
	check(err)
	for name, arn := range map[string]*string{"bucket": bucket.VectorBucket.VectorBucketArn, "index": index.Index.IndexArn} {
		list := func(step string) {
			got, err := s.client.ListTagsForResource(ctx, &s3vectors.ListTagsForResourceInput{ResourceArn: arn})
			check(err)
			emit(step+" "+name, object{"tags": got.Tags})
		}
		list("tags")
		_, err := s.client.TagResource(ctx, &s3vectors.TagResourceInput{
			ResourceArn: arn, Tags: map[string]string{"plain": "1", "a b/c+d=é:@": "ü = more/+", "third": ""},
		})
		if err == nil {
			list("tags added")
		} else {
			emitError("tags added "+name, err)
		}
		_, err = s.client.UntagResource(ctx, &s3vectors.UntagResourceInput{
			ResourceArn: arn, TagKeys: []string{"plain", "a b/c+d=é:@"},
		})
		check(err)
		list("tags removed")
	}
}

func (s story) deletions() {
	_, err := s.client.DeleteVectors(ctx, &s3vectors.DeleteVectorsInput{
		VectorBucketName: &s.bucket, IndexName: aws.String("birds"), Keys: []string{key(0), key(1), "missing"},
	})
	check(err)
	keys := []string{}
	for _, vector := range s.get("birds", key(0), key(1), key(2)) {
		keys = append(keys, *vector.Key)
	}
	emit("delete", object{"left": keys})
	for _, name := range []string{"birds", "wide"} {
		_, err := s.client.DeleteIndex(ctx, &s3vectors.DeleteIndexInput{VectorBucketName: &s.bucket, IndexName: &name})
		check(err)
	}
	for _, name := range []string{s.bucket, s.bucket + "-2"} {
		_, err := s.client.DeleteVectorBucket(ctx, &s3vectors.DeleteVectorBucketInput{VectorBucketName: &name})
		check(err)
	}
	_, err = s.client.GetVectorBucket(ctx, &s3vectors.GetVectorBucketInput{VectorBucketName: &s.bucket})
	emitError("bucket deleted", err)
}

func (s story) put(index string, vectors ...types.PutInputVector) error {
	_, err := s.client.PutVectors(ctx, &s3vectors.PutVectorsInput{
		VectorBucketName: &s.bucket, IndexName: &index, Vectors: vectors,
	})
	return err
}

func (s story) get(index string, keys ...string) []types.GetOutputVector {
	got, err := s.client.GetVectors(ctx, &s3vectors.GetVectorsInput{
		VectorBucketName: &s.bucket, IndexName: &index, Keys: keys, ReturnData: true, ReturnMetadata: true,
	})
	check(err)
	return got.Vectors
}

func record(key string, data []float32, metadata any) types.PutInputVector {
	vector := types.PutInputVector{Key: &key, Data: &types.VectorDataMemberFloat32{Value: data}}
	if metadata != nil {
		vector.Metadata = document.NewLazyDocument(metadata)
	}
	return vector
}

func key(i int) string {
	return "k" + string(rune('0'+i/100)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10))
}

func floatsOf(data types.VectorData) []float32 {
	return data.(*types.VectorDataMemberFloat32).Value
}

// plain turns a document into what encoding/json can write; the SDK's numbers keep all their digits.
func plain(from document.Interface) any {
	if from == nil {
		return nil
	}
	var value any
	check(from.UnmarshalSmithyDocument(&value))
	return plainValue(value)
}

func plainValue(value any) any {
	switch value := value.(type) {
	case object:
		for name, item := range value {
			value[name] = plainValue(item)
		}
	case []any:
		for i, item := range value {
			value[i] = plainValue(item)
		}
	case smithydocument.Number:
		return json.Number(value.String())
	}
	return value
}

func seconds(at *time.Time) float64 {
	return float64(at.UnixMilli()) / 1000
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func emit(step string, found object) {
	found["step"] = step
	line, err := json.Marshal(found)
	check(err)
	os.Stdout.Write(append(line, '\n'))
}

// emitError reports a refusal as the type of Go that it is, so that a code without its type shows.
func emitError(step string, err error) {
	var api smithy.APIError
	if !errors.As(err, &api) {
		emit(step, object{"error": nil, "message": errorText(err)})
		return
	}
	found := object{"error": api.ErrorCode(), "message": api.ErrorMessage(), "typed": false}
	var notFound *types.NotFoundException
	var conflict *types.ConflictException
	var validation *types.ValidationException
	switch {
	case errors.As(err, &notFound), errors.As(err, &conflict):
		found["typed"] = true
	case errors.As(err, &validation):
		found["typed"] = true
		fields := []object{}
		for _, field := range validation.FieldList {
			fields = append(fields, object{"path": *field.Path, "message": *field.Message})
		}
		found["fields"] = fields
	}
	emit(step, found)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
