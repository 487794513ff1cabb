//! Compiling a component aside: on threads of its own, which let those that serve requests go first. An engine on the CPU
//! has its arithmetic in rayon's common pool; a step of it would wait there behind whole functions of a plugin.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use wasmtime::{Engine, component::Component};

/// How far below the others, of 19 steps: Linux gives such a thread a tenth of what one beside it gets.
const NICE: i32 = 10;

/// The component of these bytes.
pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    match pool() {
        Ok(pool) => pool.install(|| Component::new(engine, bytes)),
        // There is no thread left: it takes longer here, and works.
        Err(_) => Component::new(engine, bytes),
    }
}

/// Threads that live for one component.
fn pool() -> Result<ThreadPool, ThreadPoolBuildError> {
    let name = |at: usize| format!("compile-{at}");
    // Where it is not allowed to step back, a thread stays where it is.
    let step_back = |_| {
        let _ = rustix::process::nice(NICE);
    };
    ThreadPoolBuilder::new().thread_name(name).start_handler(step_back).build()
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_threads_that_compile_step_back() {
        let before = getpriority_process(None).unwrap();
        let inside = pool().unwrap().broadcast(|_| getpriority_process(None).unwrap());
        assert!(inside.iter().all(|it| *it == (before + NICE).min(19)), "{inside:?}");
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn what_cannot_be_compiled_is_an_error_there_too() {
        let engine = Engine::new(&crate::runtime::config()).unwrap();
        assert!(compile(&engine, b"(component)").is_ok());
        assert!(compile(&engine, b"(component").is_err());
    }
}
