//! Answers, on their way out.

use std::future::Future;
use std::io;

use prost_reflect::DynamicMessage;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::CallError;
use crate::codec::{EncodeOptions, PayloadCodec};

/// Where answers go: whatever can be written to, or what else has a use for each.
pub trait Answers {
    /// Takes an answer, whole, as the output's codec has it.
    fn take(&mut self, answer: &[u8]) -> impl Future<Output = io::Result<()>>;
}

/// Written, and flushed.
impl<W: AsyncWrite + Unpin> Answers for W {
    async fn take(&mut self, answer: &[u8]) -> io::Result<()> {
        self.write_all(answer).await?;
        self.flush().await
    }
}

/// Writes answers out, each of them whole or not at all.
pub(super) struct Printer<'a, A> {
    pub(super) codec: &'a dyn PayloadCodec,
    pub(super) options: EncodeOptions,
    pub(super) out: &'a mut A,
    pub(super) answers: u64,
}

impl<A: Answers> Printer<'_, A> {
    pub(super) async fn print(&mut self, answer: &DynamicMessage) -> Result<(), CallError> {
        let mut text = Vec::new();
        self.codec.encode(answer, self.options, &mut text)?;
        self.out.take(&text).await.map_err(CallError::Output)?;
        self.answers += 1;
        Ok(())
    }
}
