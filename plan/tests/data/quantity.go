// Makes quantity.tsv from lines of input: see its head. Needs k8s.io/apimachinery v0.37.2.
//go:build ignore

package main

import (
	"bufio"
	"fmt"
	"math"
	"math/big"
	"os"

	inf "gopkg.in/inf.v0"
	"k8s.io/apimachinery/pkg/api/resource"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		s := in.Text()
		q, err := resource.ParseQuantity(s)
		if err != nil {
			kind := "format"
			if err == resource.ErrNumeric {
				kind = "numeric"
			} else if err == resource.ErrSuffix {
				kind = "suffix"
			}
			fmt.Printf("%s\terror\t%s\n", s, kind)
			continue
		}
		c := q.DeepCopy()
		c.Neg()
		c.Neg() // drops the cached text: the canonical form is made afresh
		exact := func(scale inf.Scale) int64 {
			d := q.DeepCopy()
			r := new(inf.Dec).Round(d.AsDec(), scale, inf.RoundUp)
			v := new(big.Int).Set(r.UnscaledBig())
			if v.IsInt64() {
				return v.Int64()
			}
			if v.Sign() < 0 {
				return math.MinInt64
			}
			return math.MaxInt64
		}
		value, milli := exact(0), exact(3)
		if value != q.Value() || milli != q.MilliValue() {
			fmt.Fprintf(os.Stderr, "%s: Value %d (exact %d) MilliValue %d (exact %d)\n", s, q.Value(), value, q.MilliValue(), milli)
		}
		fmt.Printf("%s\tok\t%s\t%d\t%d\n", s, c.String(), value, milli)
	}
}
