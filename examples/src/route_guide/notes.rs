//! The notes that RouteChat's callers leave at places.

use std::collections::{HashMap, VecDeque};

use tonic::Status;

use super::geography;
use super::pb::{Point, RouteNote};

/// Places at which notes are kept. Past it, the place whose first note is oldest is forgotten.
pub const MAX_PLACES: usize = 1024;
/// Notes kept at one place. Past it, the oldest goes.
pub const MAX_NOTES_PER_PLACE: usize = 16;
/// Longest message of a note, in bytes. All notes together are thus at most 16 MiB of text.
pub const MAX_MESSAGE: usize = 1024;

/// All notes, by place.
#[derive(Debug, Default)]
pub(super) struct Notes {
    places: HashMap<(i32, i32), VecDeque<RouteNote>>,
    /// The places in the order of their first notes.
    order: VecDeque<(i32, i32)>,
}

impl Notes {
    /// Leaves a note at its place and returns those that were there before it, oldest first.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for a place that is not on Earth or a message that is too long.
    pub(super) fn leave(&mut self, note: RouteNote) -> Result<Vec<RouteNote>, Status> {
        let Point { latitude, longitude } = geography::on_earth(note.location)?;
        if note.message.len() > MAX_MESSAGE {
            return Err(Status::invalid_argument(format!(
                "the note is {} bytes long; at most {MAX_MESSAGE} are kept",
                note.message.len()
            )));
        }
        let place = (latitude, longitude);
        if !self.places.contains_key(&place) {
            self.make_room();
            self.order.push_back(place);
        }
        let notes = self.places.entry(place).or_default();
        let earlier = notes.iter().cloned().collect();
        if notes.len() == MAX_NOTES_PER_PLACE {
            notes.pop_front();
        }
        notes.push_back(note);
        Ok(earlier)
    }

    fn make_room(&mut self) {
        if self.order.len() == MAX_PLACES
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn note(latitude: i32, message: &str) -> RouteNote {
        RouteNote {
            location: Some(Point {
                latitude,
                longitude: 0,
            }),
            message: message.into(),
        }
    }

    fn messages(notes: Vec<RouteNote>) -> Vec<String> {
        notes.into_iter().map(|note| note.message).collect()
    }

    #[test]
    fn earlier_notes_of_the_same_place_only_in_order() {
        let mut notes = Notes::default();
        assert!(notes.leave(note(1, "a")).unwrap().is_empty());
        assert!(notes.leave(note(2, "elsewhere")).unwrap().is_empty());
        assert_eq!(messages(notes.leave(note(1, "b")).unwrap()), ["a"]);
        assert_eq!(messages(notes.leave(note(1, "c")).unwrap()), ["a", "b"]);
    }

    #[test]
    fn a_place_keeps_its_newest_notes() {
        let mut notes = Notes::default();
        for i in 0..=MAX_NOTES_PER_PLACE {
            notes.leave(note(1, &i.to_string())).unwrap();
        }
        let kept = messages(notes.leave(note(1, "last")).unwrap());
        assert_eq!(kept.len(), MAX_NOTES_PER_PLACE);
        assert_eq!(kept.first().unwrap(), "1");
        assert_eq!(kept.last().unwrap(), &MAX_NOTES_PER_PLACE.to_string());
    }

    #[test]
    fn the_oldest_place_is_forgotten_when_there_are_too_many() {
        let mut notes = Notes::default();
        let places = i32::try_from(MAX_PLACES).unwrap();
        for place in 0..=places {
            notes.leave(note(place, "here")).unwrap();
        }
        assert_eq!((notes.places.len(), notes.order.len()), (MAX_PLACES, MAX_PLACES));
        assert_eq!(messages(notes.leave(note(1, "again")).unwrap()), ["here"]);
        assert!(notes.leave(note(0, "again")).unwrap().is_empty());
    }

    #[test]
    fn a_message_has_a_greatest_length() {
        let mut notes = Notes::default();
        assert!(notes.leave(note(1, &"x".repeat(MAX_MESSAGE))).is_ok());
        let refused = notes.leave(note(1, &"x".repeat(MAX_MESSAGE + 1))).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert_eq!(notes.leave(note(1, "kept?")).unwrap().len(), 1);
    }
}
