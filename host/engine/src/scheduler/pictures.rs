//! Images of jobs in the size that the model takes: one copy for all jobs that show the same one, and no more bytes than there is
//! room for.
//!
//! A job keeps its images to its end, since it may have to be computed again. So they stay bytes, and become numbers, which take four
//! times as much, only while the model looks at them, one at a time.

use std::{
    collections::HashMap,
    ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use ::image::{DynamicImage, RgbImage};

use super::{pool::Key, prefix::image_digest};
use crate::error::EngineError;

/// For the images of all jobs, in bytes: 42 of the largest that Qwen3-VL takes, 680 of a megapixel.
pub(crate) const ROOM: usize = 2 << 30;

/// An image that has its room for as long as a job holds it.
pub(crate) struct Pixels {
    pub(crate) image: RgbImage,
    _room: Room,
}

/// The images that jobs hold.
pub(crate) struct Shelf {
    room: usize,
    used: Arc<AtomicUsize>,
    kept: HashMap<Key, Weak<Pixels>>,
    /// Answers to one request share its images: those are not read anew for each of them.
    digests: Vec<(Weak<DynamicImage>, Key)>,
}

/// Bytes that are free again when this is dropped.
struct Room {
    bytes: usize,
    used: Arc<AtomicUsize>,
}

impl Shelf {
    /// With room for so many bytes.
    pub(crate) fn new(room: usize) -> Self {
        Self { room, used: Arc::default(), kept: HashMap::new(), digests: Vec::new() }
    }

    /// What stands for the pixels of an image.
    pub(crate) fn digest(&mut self, image: &Arc<DynamicImage>) -> Key {
        self.digests.retain(|(it, _)| it.strong_count() > 0);
        // No other image can have the place of one that somebody holds.
        let known = self.digests.iter().find(|(it, _)| ptr::eq(it.as_ptr(), Arc::as_ptr(image)));
        if let Some((_, digest)) = known {
            return *digest;
        }
        let digest = image_digest(image);
        self.digests.push((Arc::downgrade(image), digest));
        digest
    }

    /// The image with this digest: a job's, or else what `make` makes, of this width and height.
    pub(crate) fn take(
        &mut self,
        digest: Key,
        (width, height): (u32, u32),
        make: impl FnOnce() -> Result<RgbImage, EngineError>,
    ) -> Result<Arc<Pixels>, EngineError> {
        if let Some(pixels) = self.kept.get(&digest).and_then(Weak::upgrade) {
            return Ok(pixels);
        }
        self.kept.retain(|_, it| it.strong_count() > 0);
        let bytes = 3 * width as usize * height as usize;
        let more = |used: usize| used.checked_add(bytes).filter(|it| *it <= self.room);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| EngineError::CacheFull)?;
        let room = Room { bytes, used: Arc::clone(&self.used) };
        let pixels = Arc::new(Pixels { image: make()?, _room: room });
        self.kept.insert(digest, Arc::downgrade(&pixels));
        Ok(pixels)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_shared_and_have_a_bound() {
        let image = |level: u8| -> Result<RgbImage, EngineError> {
            Ok(RgbImage::from_pixel(10, 5, ::image::Rgb([level; 3])))
        };
        let mut shelf = Shelf::new(320);
        let mut take = |level: u8| shelf.take([level; 32], (10, 5), || image(level));
        let (one, other) = (take(1).unwrap(), take(2).unwrap());
        assert!(Arc::ptr_eq(&one, &take(1).unwrap()));
        assert!(!Arc::ptr_eq(&one, &other));
        assert!(matches!(take(3), Err(EngineError::CacheFull)));
        // What somebody holds is there all the same, and what nobody holds leaves room.
        assert!(Arc::ptr_eq(&other, &take(2).unwrap()));
        drop(one);
        let third = take(3).unwrap();
        assert_eq!(third.image.get_pixel(9, 4).0, [3; 3]);
        assert!(matches!(take(1), Err(EngineError::CacheFull)));
        drop((other, third));
        let broken = shelf.take([4; 32], (10, 5), || Err(EngineError::BadImage("no".to_owned())));
        assert!(broken.is_err());
        assert_eq!(shelf.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_digest_is_that_of_the_pixels() {
        let image = |level: u8| {
            Arc::new(DynamicImage::from(RgbImage::from_pixel(2, 2, ::image::Rgb([level; 3]))))
        };
        let mut shelf = Shelf::new(0);
        let (one, same, other) = (image(1), image(1), image(2));
        let digest = shelf.digest(&one);
        assert_eq!(digest, image_digest(&one));
        assert_eq!((shelf.digest(&one), shelf.digest(&same)), (digest, digest));
        assert_ne!(shelf.digest(&other), digest);
        drop((one, same));
        shelf.digest(&other);
        assert_eq!(shelf.digests.len(), 1);
    }
}
