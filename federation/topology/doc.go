// Package topology is the tree of nodes as every node of it knows it: who is whose parent, and by which key each journal
// is believed. It also writes a tree's keys and certificates.
//
// What it promises: a Tree that loaded is one tree under one city, every node with a journal and a key of its own; nothing
// is overwritten when keys are made, but the TLS keys and certificates that Extend is asked to renew, and topology.yaml as
// a whole where it adds nodes; journals and their keys never. What it doesn't do: it is as old as its file. Moves of streets between districts and
// new keys are read at the next start.
//
// # topology.yaml
//
//	city: "120000"
//	nodes:
//	  - code: "120000"                 # GB/T 2260
//	    name: 天津市
//	    tier: city                     # city, district or street
//	    parent: ""                     # code of the node above; empty for the city
//	    journal: "5f0c...32 digits"    # journal id
//	    key: "duban.internal/journal/5f0c...+hash+key"   # verifies the journal's checkpoints
//	    address: 127.0.0.1:7443        # where its children dial it; empty where nobody does
//
// # Folders
//
// Generate writes, all or nothing:
//
//	DIR/topology.yaml
//	DIR/ca/ca.crt, ca.key                                          the authority: keep ca.key away from every node
//	DIR/CODE/node.crt, node.key, ca.crt, journal.key               one folder a node
//	DIR/clients/agency-ID/client.crt, client.key, ca.crt           one folder an agency
//	DIR/clients/office-ROLE-CODE/..., DIR/clients/operator-CODE/...
//
// Private keys are readable by their owner only (0600, folders 0700).
package topology
