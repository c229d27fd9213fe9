//! What messages say, also about hostile requests, and what reaches receivers that fail, come back, or are flooded.

mod rendering;
mod sending;
mod test_notifications;
