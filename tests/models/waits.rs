//! The places of those who wait: never more than there are, and none is lost.

use std::sync::Arc;

use loom::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::places::Places;

#[test]
fn places_are_never_given_twice_and_all_come_back() {
    loom::model(|| {
        let places = Arc::new(Places::new(1));
        let waiting = Arc::new(AtomicUsize::new(0));
        let wait = |places: &Places, waiting: &AtomicUsize| {
            if let Some(place) = places.take() {
                assert_eq!(waiting.fetch_add(1, Ordering::SeqCst), 0);
                waiting.fetch_sub(1, Ordering::SeqCst);
                drop(place);
            }
        };
        let other = {
            let (places, waiting) = (places.clone(), waiting.clone());
            thread::spawn(move || wait(&places, &waiting))
        };
        wait(&places, &waiting);
        other.join().unwrap();
        let place = places.take();
        assert!(place.is_some() && places.take().is_none());
    });
}
