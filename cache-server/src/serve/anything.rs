//! What strangers may send, for the tests of parsers.

use super::connection::Step;

/// Inputs of one test, and pieces of one input.
const INPUTS: usize = 20_000;
const PIECES_MAX: usize = 12;

/// Gives parsers random rows of `pieces`, of each first no byte, then one, and so on, until they
/// have a request or refuse. They ask for more than there is, and take no more than there is.
pub fn parse_anything<R: Default>(pieces: &[&[u8]], parse: impl Fn(&mut R, &[u8]) -> Step) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..INPUTS {
        let mut input = Vec::new();
        for _ in 0..random.usize(0..PIECES_MAX) {
            input.extend_from_slice(pieces[random.usize(0..pieces.len())]);
        }
        let mut request = R::default();
        let mut known = 0;
        while known <= input.len() {
            match parse(&mut request, &input[..known]) {
                Step::More(needed) => {
                    assert!(needed > known);
                    known += 1;
                }
                Step::Done(bytes) => {
                    assert!(bytes > 0 && bytes <= known);
                    break;
                }
                _ => break,
            }
        }
    }
}
