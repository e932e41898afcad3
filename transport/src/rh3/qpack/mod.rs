//! QPACK (RFC 9204) without its dynamic table: what a field section looks like on the wire.
//!
//! A field section is a prefix of two integers and then field lines, each of which names its field by an entry of the
//! [static table](static_table) or literally, and gives its value in the same two ways. Literals may be compressed
//! with the [Huffman code](huffman) of HPACK: this endpoint reads that and does not write it, because the quarter
//! or so that it saves of a head is worth less, on a link, than the time to encode and decode it.
//!
//! The dynamic table that both sides keep at capacity 0 leaves almost nothing to say on QPACK's own two streams;
//! [`instructions`] checks that nothing else is said.

pub mod decode;
pub mod encode;
pub mod huffman;
pub mod instructions;
pub mod int;
pub mod static_table;
