// Package dubanv1 is the glossary of Duban as it goes over the wire and into the journal, generated from the .proto files
// beside it, where every message and field is documented.
//
// What was released stays readable: changes add, and never renumber, retype or remove (testdata/released.binpb is what
// was released; make release-descriptors moves it forward). Nothing is decided here.
package dubanv1
