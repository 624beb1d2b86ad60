//! A scripted LM in a process of its own, so that its memory and descriptors are in no reading: this
//! program again, with other arguments. It obeys a line on its standard input with a line of JSON,
//! and ends with its standard input.

use std::{env, io, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// The LM, seen from the process that measures.
pub(crate) struct LmProcess {
    pub(crate) base_url: String,
    pub(crate) pid: Option<u32>,
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl LmProcess {
    /// Starts this program with these arguments, by which it is to be the LM.
    pub(crate) async fn start(arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, answers) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        let mut lm = Self {
            base_url: String::new(),
            pid: child.id(),
            _child: child,
            orders,
            answers: BufReader::new(answers).lines(),
        };
        let started = lm.order("read").await?;
        lm.base_url = started["base_url"].as_str().unwrap_or_default().to_owned();
        Ok(lm)
    }

    /// Gives an order; returns the LM's readings after it.
    pub(crate) async fn order(&mut self, order: &str) -> io::Result<Value> {
        let order = format!("{order}\n");
        self.orders.write_all(order.as_bytes()).await?;
        let answer = self.answers.next_line().await?;
        let answer = answer.ok_or_else(|| io::Error::other("the LM's process has ended"))?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// The connections that the LM has open.
    pub(crate) async fn connections(&mut self) -> io::Result<u64> {
        let read = self.order("read").await?;
        Ok(read["connections"].as_u64().unwrap_or(u64::MAX))
    }
}
