// Package filled makes values of which no field is empty, for tests that follow each
// field of a type through all its shapes.
package filled

import (
	"fmt"
	"reflect"
	"time"
)

// Fill gives every field of v that can be reached a value that no other has, counted
// on from n, and returns the values of those that are words or numbers.
func Fill(v reflect.Value, n *int) (values []string) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("word%d", *n))
		return []string{v.String()}
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
		return []string{fmt.Sprint(v.Float())}
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(int64(*n))
		return []string{fmt.Sprint(v.Int())}
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
		return []string{fmt.Sprint(v.Uint())}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(fmt.Appendf(nil, "bytes%d", *n))
			return []string{string(v.Bytes())}
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return Fill(v.Index(0), n)
	case reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		values = append(Fill(k, n), Fill(e, n)...)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return Fill(v.Elem(), n)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.UnixMicro(int64(*n)).UTC()))
			return nil
		}
		for k := range v.NumField() {
			values = append(values, Fill(v.Field(k), n)...)
		}
	default:
		panic(v.Kind().String())
	}
	return values
}

// EachZeroed calls f once for each field below v that is a word, a number, a list or a
// map, and is not zero, with that field alone set to zero, under its name.
func EachZeroed(v reflect.Value, name string, f func(field string)) {
	switch {
	case v.Kind() == reflect.Struct:
		for k := range v.NumField() {
			EachZeroed(v.Field(k), name+"."+v.Type().Field(k).Name, f)
		}
		return
	case v.Kind() == reflect.Pointer && !v.IsNil():
		EachZeroed(v.Elem(), name, f)
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct:
		EachZeroed(v.Index(0), name+"[0]", f)
	}
	if v.IsZero() {
		return
	}
	was := reflect.New(v.Type()).Elem()
	was.Set(v)
	v.SetZero()
	f(name)
	v.Set(was)
}
