package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// assign puts a value, from YAML or as text, into a field of app.Config.
func assign(field reflect.Value, value any) error {
	if field.Kind() == reflect.Slice {
		list, err := listOf(value)
		if err == nil {
			field.Set(reflect.ValueOf(list))
		}
		return err
	}
	text, err := textOf(value)
	if err != nil {
		return err
	}
	switch target := field.Addr().Interface().(type) {
	case *string:
		*target = text
	case *bool:
		*target, err = strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%.40q: expected true or false", text)
		}
	case *float64:
		*target, err = strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%.40q: expected a number", text)
		}
	case *time.Duration:
		*target, err = time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%.40q: expected a time such as 500ms, 30s, 10m or 2h", text)
		}
	case *time.Time:
		if text == "" {
			return nil
		}
		*target, err = time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return fmt.Errorf("%.40q: expected a time such as 2026-03-02T09:00:00+08:00", text)
		}
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text))
	default:
		return fmt.Errorf("a setting of type %s can't be read", field.Type())
	}
	return nil
}

// textOf is a scalar as text. YAML makes a number of an unquoted code; one that begins with 0 would be read as octal, so
// it has to be quoted.
func textOf(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case uint64:
		return strconv.FormatUint(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	}
	return "", fmt.Errorf("expected one value, not a list or a block")
}

func listOf(value any) ([]string, error) {
	switch v := value.(type) {
	case string:
		return strings.FieldsFunc(v, func(r rune) bool { return r == ',' }), nil
	case []string:
		return v, nil
	case []any:
		out := make([]string, len(v))
		for i, e := range v {
			text, err := textOf(e)
			if err != nil {
				return nil, err
			}
			out[i] = text
		}
		return out, nil
	}
	return nil, fmt.Errorf("expected a list")
}
