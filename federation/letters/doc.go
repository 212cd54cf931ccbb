// Package letters carries down what a journal says about jurisdictions below it (下行): levels opened, disputes, withdrawals,
// profiles and calendars. An Addresser numbers what concerns whom, a Post makes letters of it for the children, a Box takes
// those that come from above.
//
// What it promises: whoever is addressed has, in order and once, every entry addressed to it, or knows at which number it
// is left short; nobody in between can change, invent, reorder or repeat one, and the sender itself can't take back or
// backdate what a child has seen. Taken means durable. What it doesn't do: it can't tell a feed that is held back at its end
// from one that has nothing new; it shows no screens (what a letter means is for those who fold ReceivedFromAbove).
//
// # Numbers
//
// The Addresser follows its own journal and writes Addressed entries: this jurisdiction, from this number on, these entries.
// A number counts entries, for each addressee from 0 on. Told are, about an alert, the node of the case, and the nodes
// between that node and this one that the matter has passed: those that would have received a lower level, or whose
// handling is disputed. An adopted profile or calendar is addressed to each child.
//
// # Marks
//
// A letter is an Addressed entry, the entries it names, and proofs of all under a checkpoint signed by the sender's key.
// The sender keeps the checkpoints that it ever used for letters, its marks, and a letter is proven under the first mark
// that covers it. So a letter is the same bytes by whatever way and however late it comes, and the marks of one sender are one
// sequence for everybody below. A mark is made when somebody is due a letter that no mark covers: one for all that wait.
//
// # Checkpoints that are kept
//
// A Box keeps the last checkpoint of each sender and every mark that it has taken. A letter's checkpoint is taken
//
//   - where nothing was kept: on the signature alone;
//   - at the size kept, or of a mark taken before: if it has the same root;
//   - of a larger size: if a consistency proof leads to it from the size that is kept, its time is not earlier, and nothing
//     that came with it from beyond the size kept was recorded before the time kept;
//   - of a smaller size: if a consistency proof leads from it to the kept one or to the next mark that was taken.
//
// Proof and sizes come in SyncLetter; the smaller size is where the proof begins. The sender makes such a proof from its
// tree. A node in between has no tree of that journal: it keeps each mark with the proof by which it took it, and leads the
// child along, from the child's mark to the letter's, by letters that carry only a checkpoint (and back, where marks came and
// the letters under them were held back). Because feeds are sent in
// the order of the sender's journal, and marks are one sequence, a child's mark lies on that way, also where the child
// got letters from the sender itself while the node in between was off. Where it doesn't (the sender lost its tables, or
// a street came from another district), the node in between is silent for this sender, and says so in its log; the child
// gets on by its sender's own stream.
//
// A letter whose proof begins elsewhere than at what is kept, or that comes before its turn, is not taken and not held
// against anybody at first: the answer says where the child stands, and an honest sender goes on from there. Only when the
// same thing comes again and again is it refused.
//
// # Refusals
//
// What can't be taken is refused and kept as evidence (PeerRefused, with both checkpoints) once for each kind of wrong at
// each place of the feed, so that whoever sends nonsense doesn't fill the journal. A number left out is refused, and taken
// when it comes. What the sender's own signatures prove (two roots of one size, time that runs back, an entry backdated
// beyond a kept checkpoint, one number given twice) ends the taking of its letters until people readmit the journal.
package letters
