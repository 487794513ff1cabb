//! Compiling a component aside: on threads of its own, which let those that serve requests go first. An engine on the CPU
//! has its arithmetic in rayon's common pool; a step of it would wait there behind whole functions of a plugin.

use rayon::ThreadPoolBuilder;
use wasmtime::{Engine, Result, component::Component};

/// How far below the others, of 19 steps: Linux gives such a thread a tenth of what one beside it gets.
const NICE: i32 = 10;

/// The component of these bytes.
pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component> {
    let name = |at: usize| format!("compile-{at}");
    let pool = ThreadPoolBuilder::new().thread_name(name).start_handler(|_| step_back()).build();
    match pool {
        Ok(pool) => pool.install(|| Component::new(engine, bytes)),
        // There is no thread left: it takes longer here, and works.
        Err(_) => Component::new(engine, bytes),
    }
}

/// Lowers the priority of this thread. Where that is not allowed, it stays what it is.
fn step_back() {
    let _ = rustix::process::nice(NICE);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_the_thread_that_compiles_steps_back() {
        let before = getpriority_process(None).unwrap();
        let inside = thread::spawn(|| {
            step_back();
            getpriority_process(None).unwrap()
        });
        assert_eq!(inside.join().unwrap(), (before + NICE).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn what_cannot_be_compiled_is_an_error_there_too() {
        let engine = Engine::new(&crate::runtime::config()).unwrap();
        assert!(compile(&engine, b"(component)").is_ok());
        assert!(compile(&engine, b"(component").is_err());
    }
}
